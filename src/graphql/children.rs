//! Batched look-ups of children: the loaders for [`Children`].

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use uuid::Uuid;

use super::Reader;
use crate::{
    children::{self, Children},
    error::{Error, Result},
    page::{Page, Slice},
};

/// Looks up a page of the children of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChildPage<C> {
    pub(super) list: C,
    pub(super) parent: Uuid,
    pub(super) page: Page,
}

/// Looks up the number of children of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChildCount<C> {
    pub(super) list: C,
    pub(super) parent: Uuid,
}

impl<C: Children> Loader<ChildPage<C>> for Reader {
    type Value = Slice<<C::Entity as sea_orm::EntityTrait>::Model>;
    type Error = Error;

    async fn load(&self, keys: &[ChildPage<C>]) -> Result<HashMap<ChildPage<C>, Self::Value>> {
        let session = self.session()?;
        let pages = keys.iter().map(|key| (key.parent, key.page));
        let mut found = children::list::<C>(&session, pages).await?;
        let entry = |key: &ChildPage<C>| Some((*key, found.remove(&(key.parent, key.page))?));
        Ok(keys.iter().filter_map(entry).collect())
    }
}

impl<C: Children> Loader<ChildCount<C>> for Reader {
    type Value = i64;
    type Error = Error;

    async fn load(&self, keys: &[ChildCount<C>]) -> Result<HashMap<ChildCount<C>, i64>> {
        let session = self.session()?;
        let parents: Vec<_> = keys.iter().map(|key| key.parent).collect();
        let found = children::count::<C>(&session, &parents).await?;
        let count = |key: &ChildCount<C>| found.get(&key.parent).copied().unwrap_or_default();
        Ok(keys.iter().map(|key| (*key, count(key))).collect())
    }
}
