//! The actions of the audit log. Each area declares its actions with `actions!`, each with the
//! metadata that its entries carry.

use std::fmt;

/// An audited action. Its values are constants that the areas declare, such as
/// `Action::ProjectCreated`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Action {
    name: &'static str,
    about: &'static str,
    metadata: &'static str,
}

/// Declares actions: what happened, the constant, the stored name (dotted, in the past tense), and
/// the metadata. They become constants of [`Action`], and the slice `ACTIONS`.
macro_rules! actions {
    ($($(#[doc = $about:literal])+ $constant:ident = $name:literal with $metadata:literal;)+) => {
        #[expect(non_upper_case_globals, reason = "used like the variants of an enum")]
        impl $crate::action::Action {
            $(
                $(#[doc = $about])+
                pub const $constant: Self =
                    Self::declare($name, concat!($($about),+), $metadata);
            )+
        }

        /// The actions that this area declares.
        const ACTIONS: &[$crate::action::Action] = &[$($crate::action::Action::$constant),+];
    };
}
pub(crate) use actions;

impl Action {
    /// Declares an action. Use `actions!`.
    #[must_use]
    pub const fn declare(name: &'static str, about: &'static str, metadata: &'static str) -> Self {
        Self { name, about, metadata }
    }

    /// The stored name, for example `project.created`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The type of the resource: the part of the name before the dot.
    #[must_use]
    pub fn resource_type(self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(resource, _)| resource)
    }

    /// What happened.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.about.trim()
    }

    /// The metadata of the entries, for readers.
    #[must_use]
    pub fn metadata(self) -> &'static str {
        self.metadata
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}
