//! Permits that organizations receive in turn. However many tasks of one organization wait, another
//! organization waits for only one permit to be returned. One organization holds at most half of
//! the permits, so its hanging reads cannot block the others.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use entity::OrganizationId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Hands out permits; cheap to clone.
#[derive(Clone, Debug)]
pub struct FairQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    permits: Arc<Semaphore>,
    by_organization: usize,
    organizations: Mutex<HashMap<OrganizationId, Weak<OrganizationQueue>>>,
}

/// The queue of an organization, as long as it holds a permit or waits for one.
#[derive(Debug)]
struct OrganizationQueue {
    permits: Arc<Semaphore>,
    /// Held by the only task of the organization that waits for a common permit.
    turn: tokio::sync::Mutex<()>,
}

/// The right to read one event; returned to the queue on drop.
#[derive(Debug)]
pub struct Permit {
    _common: OwnedSemaphorePermit,
    _of_organization: OwnedSemaphorePermit,
    _queue: Arc<OrganizationQueue>,
}

impl FairQueue {
    /// A queue with this many permits. It has at least two, so that one organization cannot hold
    /// all.
    pub fn new(permits: usize) -> Self {
        let permits = permits.max(2);
        Self(Arc::new(Shared {
            permits: Arc::new(Semaphore::new(permits)),
            by_organization: permits / 2,
            organizations: Mutex::default(),
        }))
    }

    /// Waits for a permit. Cancelling the wait only gives up the place in the queue. It never fails
    /// in practice, because the queue lives as long as its waiters.
    ///
    /// An organization has one task in the common queue at a time. That queue is first in, first
    /// out, so organizations are served in turn. A task first takes a permit of its organization,
    /// so the one in the common queue may always run.
    pub async fn permit(&self, organization: OrganizationId) -> Result<Permit> {
        let queue = self.queue(organization);
        let of_organization =
            Arc::clone(&queue.permits).acquire_owned().await.map_err(Error::internal)?;
        let turn = queue.turn.lock().await;
        let common = Arc::clone(&self.0.permits).acquire_owned().await.map_err(Error::internal)?;
        drop(turn);
        Ok(Permit { _common: common, _of_organization: of_organization, _queue: queue })
    }

    fn queue(&self, organization: OrganizationId) -> Arc<OrganizationQueue> {
        let mut organizations = self.0.organizations.lock();
        if let Some(queue) = organizations.get(&organization).and_then(Weak::upgrade) {
            return queue;
        }
        if organizations.len() == organizations.capacity() {
            organizations.retain(|_, queue| queue.strong_count() > 0);
        }
        let permits = Arc::new(Semaphore::new(self.0.by_organization));
        let queue = Arc::new(OrganizationQueue { permits, turn: tokio::sync::Mutex::default() });
        organizations.insert(organization, Arc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn organization(number: u128) -> OrganizationId {
        OrganizationId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn organizations_take_turns_however_many_wait() {
        let queue = FairQueue::new(2);
        let [loud, quiet] = [organization(1), organization(2)];
        let mut permit = queue.permit(loud).now_or_never().unwrap().unwrap();
        let other = queue.permit(quiet).now_or_never().unwrap().unwrap();
        let mut waiting: Vec<_> = (0..1_000).map(|_| Box::pin(queue.permit(loud))).collect();
        for waiter in &mut waiting {
            assert!(waiter.now_or_never().is_none());
        }
        let mut late = Box::pin(queue.permit(quiet));
        assert!(late.as_mut().now_or_never().is_none());
        drop(other);
        assert!(late.as_mut().now_or_never().is_some(), "behind a thousand of another");
        for waiter in &mut waiting {
            drop(permit);
            permit = waiter.now_or_never().expect("in order").unwrap();
        }
    }

    #[test]
    fn an_organization_waits_behind_one_task_of_each_other() {
        let queue = FairQueue::new(4);
        let permit = |number| Box::pin(queue.permit(organization(number)));
        let mut held = Vec::from([1, 1, 2, 2].map(|number| permit(number).now_or_never().unwrap()));
        let mut loud: Vec<_> = (0..10).map(|_| permit(3)).collect();
        assert!(loud.iter_mut().all(|waiter| waiter.now_or_never().is_none()));
        let mut quiet = permit(4);
        assert!(quiet.as_mut().now_or_never().is_none());
        held.pop();
        let _first = loud[0].as_mut().now_or_never().expect("the first that waits");
        assert!(loud[1].as_mut().now_or_never().is_none());
        held.pop();
        assert!(quiet.as_mut().now_or_never().is_some(), "behind the second of another");
    }

    #[test]
    fn one_organization_holds_at_most_half() {
        let queue = FairQueue::new(4);
        let take = |number| queue.permit(organization(number)).now_or_never();
        let held = [take(1), take(1)];
        assert!(held.iter().all(Option::is_some));
        assert!(take(1).is_none());
        assert!(take(2).is_some() && take(3).is_some());
    }

    #[test]
    fn waiters_that_left_take_no_permit_with_them() {
        let queue = FairQueue::new(2);
        let permit = queue.permit(organization(1)).now_or_never().unwrap();
        let mut left = Box::pin(queue.permit(organization(1)));
        assert!(left.as_mut().now_or_never().is_none());
        let mut stays = Box::pin(queue.permit(organization(1)));
        assert!(stays.as_mut().now_or_never().is_none());
        drop(left);
        drop(permit);
        drop(stays.as_mut().now_or_never().expect("the next one's").unwrap());
        assert_eq!(queue.0.permits.available_permits(), 2);
        assert!(queue.0.organizations.lock().values().all(|queue| queue.strong_count() == 0));
    }
}
