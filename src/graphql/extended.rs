//! Fields that other areas add to a type.

use std::{borrow::Cow, pin::Pin};

use async_graphql::{
    Context, ObjectType, Response, SimpleObject, SubscriptionType,
    futures_util::Stream,
    registry::{ObjectBuilder, Registry},
};

/// A type to which other areas add fields. The type flattens [`Fields`](Self::Fields) into its
/// own, and the list of areas implements the trait, so the type's area imports none of the others.
pub trait Extended: Sized {
    /// The fields, which know the object that they belong to.
    type Fields: ObjectType + for<'object> From<&'object Self>;
}

/// The part of a type to which nothing is added.
#[derive(Clone, Copy, Debug, Default, SimpleObject)]
#[graphql(fake)]
pub struct NoFields;

impl<T> From<&T> for NoFields {
    fn from(_: &T) -> Self {
        Self
    }
}

impl SubscriptionType for NoFields {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("NoSubscriptionFields")
    }

    fn create_type_info(registry: &mut Registry) -> String {
        registry.create_subscription_type::<Self, _>(|_| {
            ObjectBuilder::new("NoSubscriptionFields", async_graphql::indexmap::IndexMap::new())
                .is_subscription(true)
                .rust_typename(std::any::type_name::<Self>())
                .build()
        })
    }

    fn create_field_stream<'a>(
        &'a self,
        _: &'a Context<'_>,
    ) -> Option<Pin<Box<dyn Stream<Item = Response> + Send + 'a>>> {
        None
    }
}
