//! What an area contributes. Each area implements [`Area`] in its folder. `areas.rs` lists the
//! areas of tenantry, `app/mod.rs` those of the product. Nothing else in the program lists them.

use async_graphql::{
    ObjectType, SchemaBuilder, SubscriptionType,
    registry::{MetaType, Registry},
};

use crate::{action::Action, graphql::NodeType, permission::Permission, tenancy::DeclaredFeature};

/// An area: a vertical slice of the API with its rules. A type that contributes nothing is
/// [`NoFields`](crate::graphql::NoFields).
pub trait Area {
    /// The fields of the query.
    type Query: ObjectType + Default;
    /// The fields of the mutation.
    type Mutation: ObjectType + Default;
    /// The fields of the subscription.
    type Subscription: SubscriptionType + Default;
    /// The fields of `Organization`.
    type OrganizationFields: ObjectType + Default;

    /// The permissions that `permissions!` declares in the area.
    const PERMISSIONS: &'static [Permission] = &[];
    /// The actions that `actions!` declares in the area.
    const ACTIONS: &'static [Action] = &[];

    /// The names of the fields that the area adds, each after the name of the type. Of two areas
    /// that add the same field to a type, GraphQL has only the first one.
    #[must_use]
    fn fields() -> Vec<String> {
        let mut registry = Registry::default();
        let types = [
            ("Query", registry.create_fake_output_type::<Self::Query>()),
            ("Mutation", registry.create_fake_output_type::<Self::Mutation>()),
            ("Subscription", registry.create_fake_subscription_type::<Self::Subscription>()),
            ("Organization", registry.create_fake_output_type::<Self::OrganizationFields>()),
        ];
        let mut names = Vec::new();
        for (of, added) in types {
            if let MetaType::Object { fields, .. } = added {
                names.extend(fields.keys().map(|field| format!("{of}.{field}")));
            }
        }
        names
    }

    /// The permissions that the fields of the area require.
    #[must_use]
    fn permissions() -> Vec<Permission> {
        Self::PERMISSIONS.to_vec()
    }

    /// The actions that the area records in the audit log.
    #[must_use]
    fn actions() -> Vec<Action> {
        Self::ACTIONS.to_vec()
    }

    /// The features of plans that limit how many of the area's objects exist.
    #[must_use]
    fn limits() -> Vec<Limit> {
        Vec::new()
    }

    /// The flags and meters of plans that the area uses.
    #[must_use]
    fn features() -> Vec<DeclaredFeature> {
        Vec::new()
    }

    /// The types that clients fetch by id.
    #[must_use]
    fn nodes() -> Vec<NodeType> {
        Vec::new()
    }

    /// Describes types that have no doc comment, such as connections.
    fn describe<Q, M, S>(schema: SchemaBuilder<Q, M, S>) -> SchemaBuilder<Q, M, S> {
        schema
    }
}

/// A feature of plans that limits how many objects exist.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The key of the feature. Without a row of the kind `count` in the catalogue it is denied.
    pub feature: &'static str,
    /// The number of objects, as a query: `$1` is the organization, `$2` the time. A function,
    /// because some texts are put together at run time.
    pub count: fn() -> &'static str,
}

/// Combines areas into one: `Name { Query, Mutation, Subscription, OrganizationFields }` names the
/// types that it defines.
macro_rules! areas {
    (
        $(#[$about:meta])*
        $name:ident { $query:ident, $mutation:ident, $subscription:ident, $organization:ident }
        = $($area:ty),+ $(,)?
    ) => {
        #[derive(Debug, Default, async_graphql::MergedObject)]
        pub struct $query($(<$area as $crate::area::Area>::Query),+);

        #[derive(Debug, Default, async_graphql::MergedObject)]
        pub struct $mutation($(<$area as $crate::area::Area>::Mutation),+);

        #[derive(Debug, Default, async_graphql::MergedSubscription)]
        pub struct $subscription($(<$area as $crate::area::Area>::Subscription),+);

        #[derive(Debug, Default, async_graphql::MergedObject)]
        pub struct $organization($(<$area as $crate::area::Area>::OrganizationFields),+);

        $(#[$about])*
        #[derive(Debug)]
        pub struct $name;

        impl $crate::area::Area for $name {
            type Query = $query;
            type Mutation = $mutation;
            type Subscription = $subscription;
            type OrganizationFields = $organization;

            fn fields() -> Vec<String> {
                [$(<$area as $crate::area::Area>::fields()),+].concat()
            }

            fn permissions() -> Vec<$crate::permission::Permission> {
                [$(<$area as $crate::area::Area>::permissions()),+].concat()
            }

            fn actions() -> Vec<$crate::action::Action> {
                [$(<$area as $crate::area::Area>::actions()),+].concat()
            }

            fn limits() -> Vec<$crate::area::Limit> {
                [$(<$area as $crate::area::Area>::limits()),+].concat()
            }

            fn features() -> Vec<$crate::tenancy::DeclaredFeature> {
                [$(<$area as $crate::area::Area>::features()),+].concat()
            }

            fn nodes() -> Vec<$crate::graphql::NodeType> {
                [$(<$area as $crate::area::Area>::nodes()),+].concat()
            }

            fn describe<Q, M, S>(
                schema: async_graphql::SchemaBuilder<Q, M, S>,
            ) -> async_graphql::SchemaBuilder<Q, M, S> {
                $(let schema = <$area as $crate::area::Area>::describe(schema);)+
                schema
            }
        }
    };
}
pub(crate) use areas;

/// Implements [`Declared`](crate::declared::Declared) with what an area declares.
macro_rules! declared_by {
    ($area:ty: $($declared:ty = $list:ident),+ $(,)?) => {$(
        impl $crate::declared::Declared for $declared {
            fn all() -> &'static [Self] {
                static ALL: std::sync::LazyLock<Vec<$declared>> =
                    std::sync::LazyLock::new(<$area as $crate::area::Area>::$list);
                &ALL
            }
        }
    )+};
}
pub(crate) use declared_by;

/// Combines the fields that areas add to a type: `Type { Name } = Fields, …;` defines the
/// combination `Name`.
macro_rules! extended {
    ($($extended:ty { $name:ident } = $($fields:ty),+;)+) => {$(
        #[derive(Debug, async_graphql::MergedObject)]
        pub struct $name($($fields),+);

        impl From<&$extended> for $name {
            fn from(object: &$extended) -> Self {
                Self($(<$fields>::from(object)),+)
            }
        }

        impl $crate::graphql::Extended for $extended {
            type Fields = $name;
        }
    )+};
}
pub(crate) use extended;
