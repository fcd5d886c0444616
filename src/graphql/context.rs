//! Access from resolvers to the session and the dataloaders of their request.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use async_graphql::{Context, ID, dataloader::Loader};
use futures_util::{
    future::{self, Ready},
    stream::{self, Once},
};
use sea_orm::EntityTrait;
use uuid::Uuid;

use super::{
    Loaders, Reader,
    children::{ChildCount, ChildPage},
};
use crate::{
    children::Children,
    error::{Error, Result},
    page::{Page, Slice},
    tenancy::Session,
};

/// The subject of a subscription's event, in the context of one execution.
#[derive(Debug)]
pub struct Event<T>(pub T);

/// The stream of a subscription field. It has one item, because the field is executed again for
/// each event.
pub type One<T> = Once<Ready<T>>;

/// Wraps the one event.
pub fn one<T>(event: T) -> One<T> {
    stream::once(future::ready(event))
}

/// Access to the request's data for resolvers.
pub trait ContextExt {
    /// Returns the request's session.
    ///
    /// # Errors
    ///
    /// Fails only during introspection, which runs without a session.
    fn session(&self) -> Result<&Session>;

    /// Returns the subject of the event.
    ///
    /// # Errors
    ///
    /// Fails outside the execution of an event.
    fn event<T: Send + Sync + 'static>(&self) -> Result<&T>;

    /// Counts a long value against the size limit of the response, each time a field returns it.
    /// Short values are bounded by the limit on complexity.
    ///
    /// # Errors
    ///
    /// Fails when the response is too large.
    fn spend(&self, bytes: usize) -> Result<()>;

    /// Loads one value, batched with the look-ups of sibling fields.
    fn load<K>(
        &self,
        key: K,
    ) -> impl Future<Output = Result<Option<<Reader as Loader<K>>::Value>>> + Send
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Reader: Loader<K, Error = Error>;

    /// Loads several values.
    fn load_many<K>(
        &self,
        keys: Vec<K>,
    ) -> impl Future<Output = Result<HashMap<K, <Reader as Loader<K>>::Value>>> + Send
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Reader: Loader<K, Error = Error>;

    /// Loads a page of the children of a parent, batched with those of other parents.
    fn children<C: Children>(
        &self,
        list: C,
        parent: Uuid,
        page: Page,
    ) -> impl Future<Output = Result<Slice<<C::Entity as EntityTrait>::Model>>> + Send;

    /// Counts the children of a parent, batched with those of other parents.
    fn count_children<C: Children>(
        &self,
        list: C,
        parent: Uuid,
    ) -> impl Future<Output = Result<i64>> + Send;
}

impl ContextExt for Context<'_> {
    fn session(&self) -> Result<&Session> {
        self.data_opt::<Arc<Session>>()
            .map(AsRef::as_ref)
            .ok_or_else(|| Error::internal("a field was resolved without a session"))
    }

    fn event<T: Send + Sync + 'static>(&self) -> Result<&T> {
        self.data_opt::<Event<T>>()
            .map(|event| &event.0)
            .ok_or_else(|| Error::internal("a field was resolved without its event"))
    }

    fn spend(&self, bytes: usize) -> Result<()> {
        Ok(self.session()?.transaction().spend(bytes)?)
    }

    async fn load<K>(&self, key: K) -> Result<Option<<Reader as Loader<K>>::Value>>
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Reader: Loader<K, Error = Error>,
    {
        let loader = loaders(self)?;
        // Boxed to keep the future small. The fields of an object are futures of the same size,
        // that of the largest, and most are ready immediately.
        Box::pin(async move { loader.load_one(key).await }).await
    }

    async fn load_many<K>(&self, keys: Vec<K>) -> Result<HashMap<K, <Reader as Loader<K>>::Value>>
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Reader: Loader<K, Error = Error>,
    {
        let loader = loaders(self)?;
        Box::pin(async move { loader.load_many(keys).await }).await
    }

    async fn children<C: Children>(
        &self,
        list: C,
        parent: Uuid,
        page: Page,
    ) -> Result<Slice<<C::Entity as EntityTrait>::Model>> {
        let slice = self.load(ChildPage { list, parent, page }).await?;
        slice.ok_or_else(|| Error::internal("a page of children is missing"))
    }

    async fn count_children<C: Children>(&self, list: C, parent: Uuid) -> Result<i64> {
        Ok(self.load(ChildCount { list, parent }).await?.unwrap_or_default())
    }
}

fn loaders<'context>(context: &'context Context<'_>) -> Result<&'context Loaders> {
    context
        .data_opt::<Loaders>()
        .ok_or_else(|| Error::internal("a field was resolved without loaders"))
}

/// Parses an ID of the API. Returns `None` for a malformed one, which callers treat as not found.
#[must_use]
pub fn parse_id<T: From<Uuid>>(id: &ID) -> Option<T> {
    Uuid::try_parse(id).ok().map(T::from)
}

/// Parses the ID of an object to which an input refers.
///
/// # Errors
///
/// A malformed one is not found, like one of another organization.
pub fn require_id<T: From<Uuid>>(id: &ID, object: &'static str) -> Result<T> {
    parse_id(id).ok_or(Error::NotFound(object))
}
