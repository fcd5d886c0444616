//! Resolves an object whose row is loaded. Most of its fields are in the row, so their futures are
//! ready at the first poll. The executor would allocate each of them.

use std::{borrow::Cow, task::Poll};

use async_graphql::{
    Context, ContextSelectionSet, ObjectType, OutputType, Positioned, ServerResult, Value,
    indexmap::IndexMap,
    parser::types::{Field, Selection},
    registry::Registry,
};
use futures_util::{
    future::{OptionFuture, try_join_all},
    poll,
};

/// An object whose row is loaded.
#[derive(Debug)]
pub struct Loaded<T>(pub T);

impl<T> From<T> for Loaded<T> {
    fn from(object: T) -> Self {
        Self(object)
    }
}

impl<T: ObjectType> OutputType for Loaded<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        let fields = ctx.item.node.items.iter().map(|selection| match &selection.node {
            Selection::Field(field) => Some(ctx.with_field(field)),
            // On an object, merging leaves no fragment.
            Selection::FragmentSpread(_) | Selection::InlineFragment(_) => None,
        });
        match fields.collect::<Option<Vec<_>>>() {
            Some(fields) => resolve_fields(&self.0, &fields).await,
            // Boxed: large, and rarely needed.
            None => Box::pin(self.0.resolve(ctx, field)).await,
        }
    }
}

/// Resolves the fields concurrently. They share one allocation as long as they are ready at once.
async fn resolve_fields<T: ObjectType>(object: &T, fields: &[Context<'_>]) -> ServerResult<Value> {
    let mut values = IndexMap::with_capacity(fields.len());
    let mut pending = Vec::new();
    let mut next = Box::pin(OptionFuture::from(None));
    for field in fields {
        let name = &field.item.node.name.node;
        let value = if name == "__typename" {
            Value::from(T::type_name().into_owned())
        } else {
            next.set(Some(object.resolve_field(field)).into());
            match poll!(next.as_mut()) {
                Poll::Ready(value) => value.transpose()?.flatten().unwrap_or_default(),
                Poll::Pending => {
                    let unready = std::mem::replace(&mut next, Box::pin(None.into()));
                    let index = values.len();
                    pending.push(async move {
                        ServerResult::Ok((index, unready.await.transpose()?.flatten()))
                    });
                    // Keeps the place of the field.
                    Value::Null
                }
            }
        };
        values.insert(field.item.node.response_key().node.clone(), value);
    }
    for (index, value) in try_join_all(pending).await? {
        if let (Some((_, place)), Some(value)) = (values.get_index_mut(index), value) {
            *place = value;
        }
    }
    Ok(Value::Object(values))
}

#[cfg(test)]
mod tests {
    use async_graphql::{EmptyMutation, EmptySubscription, Object, Result, Schema};
    use tokio::task::yield_now;

    use super::*;

    struct Thing;

    #[Object]
    impl Thing {
        async fn ready(&self) -> i32 {
            1
        }

        async fn late(&self) -> i32 {
            yield_now().await;
            2
        }

        async fn absent(&self) -> Option<&str> {
            None
        }

        async fn refused(&self) -> Option<Result<i32>> {
            Some(Err("refused".into()))
        }

        async fn broken(&self) -> Result<i32> {
            Err("broken".into())
        }

        async fn late_and_broken(&self) -> Result<i32> {
            yield_now().await;
            Err("late and broken".into())
        }

        async fn inner(&self) -> Self {
            Self
        }
    }

    struct Query;

    #[Object]
    impl Query {
        async fn object(&self) -> Option<Thing> {
            Some(Thing)
        }

        async fn loaded(&self) -> Option<Loaded<Thing>> {
            Some(Loaded(Thing))
        }
    }

    #[tokio::test]
    async fn a_loaded_object_is_resolved_as_the_executor_resolves_it() {
        let schema = Schema::new(Query, EmptyMutation, EmptySubscription);
        for selection in [
            "ready",
            "late ready",
            "ready late again: ready absent",
            "late inner { late ready } ready",
            "__typename ready type: __typename",
            "refused late ready",
            "late broken ready",
            "broken lateAndBroken",
            "late lateAndBroken ready",
            "ready ... on Thing { late }",
        ] {
            let resolve = async |field: &str| {
                let response = schema.execute(format!("{{ it: {field} {{ {selection} }} }}")).await;
                serde_json::to_string(&response).unwrap()
            };
            assert_eq!(resolve("loaded").await, resolve("object").await, "{selection}");
        }
    }
}
