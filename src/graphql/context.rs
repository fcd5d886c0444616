//! What a resolver reaches through its context: the session, and the loaders around it.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use async_graphql::{Context, ID, dataloader::Loader};
use futures_util::{
    future::{self, Ready},
    stream::{self, Once},
};
use uuid::Uuid;

use super::{Loaders, Reader};
use crate::{
    error::{Error, Result},
    tenancy::Session,
};

/// What a subscription tells of, as context of one execution.
#[derive(Debug)]
pub struct Event<T>(pub T);

/// A subscription's field is executed anew for each event: its stream is the one that there is.
pub type One<T> = Once<Ready<T>>;

/// The one event.
pub fn one<T>(event: T) -> One<T> {
    stream::once(future::ready(event))
}

/// Shorthands of resolvers.
pub trait ContextExt {
    /// The request's session.
    ///
    /// # Errors
    ///
    /// Never for a field that is reached by execution: only introspection runs without a session.
    fn session(&self) -> Result<&Session>;

    /// What a subscription tells of.
    ///
    /// # Errors
    ///
    /// Never for a field that is reached by an event.
    fn event<T: Send + Sync + 'static>(&self) -> Result<&T>;

    /// Counts a long text, or a value of so many bytes, against what the request may cost, each
    /// time that a field returns it. Short values are bounded by the limit on complexity.
    ///
    /// # Errors
    ///
    /// When the answer is too large.
    fn spend(&self, bytes: usize) -> Result<()>;

    /// One value, fetched together with what the fields beside this one ask for.
    fn load<K>(
        &self,
        key: K,
    ) -> impl Future<Output = Result<Option<<Reader as Loader<K>>::Value>>> + Send
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Reader: Loader<K, Error = Error>;

    /// Several values at once.
    fn load_many<K>(
        &self,
        keys: Vec<K>,
    ) -> impl Future<Output = Result<HashMap<K, <Reader as Loader<K>>::Value>>> + Send
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Reader: Loader<K, Error = Error>;
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
        self.session()?.transaction().spend(bytes)
    }

    async fn load<K>(&self, key: K) -> Result<Option<<Reader as Loader<K>>::Value>>
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Reader: Loader<K, Error = Error>,
    {
        let loader = loaders(self)?.current();
        // An object's fields are futures of one size, the largest of them, and most are ready at
        // once: kept small.
        Box::pin(async move { loader.load_one(key).await }).await
    }

    async fn load_many<K>(&self, keys: Vec<K>) -> Result<HashMap<K, <Reader as Loader<K>>::Value>>
    where
        K: Send + Sync + Hash + Eq + Clone + 'static,
        Reader: Loader<K, Error = Error>,
    {
        let loader = loaders(self)?.current();
        Box::pin(async move { loader.load_many(keys).await }).await
    }
}

fn loaders<'context>(context: &'context Context<'_>) -> Result<&'context Loaders> {
    context
        .data_opt::<Loaders>()
        .ok_or_else(|| Error::internal("a field was resolved without loaders"))
}

/// An id of the API as one of the database; `None` for what cannot be an id, which is then simply
/// not found.
#[must_use]
pub fn parse_id<T: From<Uuid>>(id: &ID) -> Option<T> {
    Uuid::try_parse(id).ok().map(T::from)
}
