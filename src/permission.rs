//! The authorization policy. Each area declares its permissions with `permissions!`, each with the
//! lowest role that has it. Roles are ordered, so that role decides.

use std::{borrow::Cow, fmt, sync::LazyLock};

use async_graphql::{
    ContextSelectionSet, InputType, InputValueResult, OutputType, Positioned, ServerResult, Value,
    indexmap::IndexMap,
    parser::types::Field,
    registry::{EnumBuilder, MetaEnumValue, MetaTypeId, Registry},
    resolver_utils::{EnumItem, EnumType, enum_value, parse_enum},
};
use entity::OrgRole;

use crate::declared::Declared;

/// An action in an organization that a role may or may not take. Its values are constants that the
/// areas declare, such as `Permission::ProjectCreate`. The floor names a few of the areas that
/// every product has, such as those of members.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permission {
    name: &'static str,
    about: &'static str,
    least: OrgRole,
}

/// The words for the lowest role, which end the description of a permission.
macro_rules! and_up {
    (Viewer) => {
        " Every member."
    };
    (Member) => {
        " Member and up."
    };
    (Admin) => {
        " Admin and up."
    };
    (Owner) => {
        " Owner."
    };
}
pub(crate) use and_up;

/// Declares permissions: a description for clients, the constant, the name in the schema, and the
/// lowest role, which ends the description. They become constants of [`Permission`], and the slice
/// `PERMISSIONS`.
macro_rules! permissions {
    ($($(#[doc = $about:literal])+ $constant:ident = $name:literal from $least:ident;)+) => {
        #[expect(non_upper_case_globals, reason = "used like the variants of an enum")]
        impl $crate::permission::Permission {
            $(
                $(#[doc = $about])+
                pub const $constant: Self = Self::declare(
                    $name,
                    concat!($($about,)+ $crate::permission::and_up!($least)),
                    entity::OrgRole::$least,
                );
            )+
        }

        /// The permissions that this area declares.
        const PERMISSIONS: &[$crate::permission::Permission] =
            &[$($crate::permission::Permission::$constant),+];
    };
}
pub(crate) use permissions;

impl Permission {
    /// Declares a permission. Use `permissions!`.
    #[must_use]
    pub const fn declare(name: &'static str, about: &'static str, least: OrgRole) -> Self {
        Self { name, about, least }
    }

    /// The permission needed to act on a member with this role. `permission` suffices for viewers
    /// and members.
    #[must_use]
    pub fn to_act_on(role: OrgRole, permission: Self) -> Self {
        match role {
            OrgRole::Viewer | OrgRole::Member => permission,
            OrgRole::Admin | OrgRole::Owner => Self::MemberManageAdmins,
        }
    }

    /// Whether a member with the first role may invite to the second one.
    #[must_use]
    pub fn allow_inviting(inviter: OrgRole, role: OrgRole) -> bool {
        [Self::MemberInvite, Self::to_act_on(role, Self::MemberInvite)]
            .iter()
            .all(|permission| permission.granted_to(inviter))
    }

    /// Whether a role includes this permission.
    #[must_use]
    pub fn granted_to(self, role: OrgRole) -> bool {
        rank(role) >= rank(self.least)
    }

    /// Whether a role includes every permission of `another`.
    #[must_use]
    pub fn all_granted_to(role: OrgRole, another: OrgRole) -> bool {
        let mut all = Self::all().iter();
        all.all(|permission| permission.granted_to(role) || !permission.granted_to(another))
    }

    /// The name that clients see, for example `PROJECT_CREATE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The description for clients.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.about.trim()
    }
}

fn rank(role: OrgRole) -> u8 {
    match role {
        OrgRole::Viewer => 0,
        OrgRole::Member => 1,
        OrgRole::Admin => 2,
        OrgRole::Owner => 3,
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

// In the schema, permissions are an enum. The derive macro needs an enum in Rust, whose variants
// would have to stand in one place.

impl EnumType for Permission {
    fn items() -> &'static [EnumItem<Self>] {
        static ITEMS: LazyLock<Vec<EnumItem<Permission>>> = LazyLock::new(|| {
            let item = |value: &Permission| EnumItem { name: value.name, value: *value };
            Permission::all().iter().map(item).collect()
        });
        &ITEMS
    }
}

fn register(registry: &mut Registry) -> String {
    registry.create_input_type::<Permission, _>(MetaTypeId::Enum, |_| {
        let mut values = IndexMap::new();
        for permission in Permission::all() {
            let mut value = MetaEnumValue::new(permission.name);
            value.description = Some(permission.about().to_owned());
            values.insert(permission.name.to_owned(), value);
        }
        let about = "An action in an organization that a role may or may not take.";
        EnumBuilder::new("Permission", values)
            .description(Some(about.to_owned()))
            .rust_typename(std::any::type_name::<Permission>())
            .build()
    })
}

impl InputType for Permission {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("Permission")
    }

    fn create_type_info(registry: &mut Registry) -> String {
        register(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        parse_enum(value.unwrap_or_default())
    }

    fn to_value(&self) -> Value {
        enum_value(*self)
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

impl OutputType for Permission {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("Permission")
    }

    fn create_type_info(registry: &mut Registry) -> String {
        register(registry)
    }

    async fn resolve(
        &self,
        _: &ContextSelectionSet<'_>,
        _: &Positioned<Field>,
    ) -> ServerResult<Value> {
        Ok(enum_value(*self))
    }
}
