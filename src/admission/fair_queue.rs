//! Permits that organizations receive in turn. However many tasks of one organization wait, another
//! organization waits for only one permit to be returned. One organization holds at most half of
//! the permits, so its hanging reads cannot block the others.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use entity::OrganizationId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Hands out permits; cheap to clone.
#[derive(Clone, Debug)]
pub struct FairQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    by_organization: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    held: HashMap<OrganizationId, usize>,
    waiting: HashMap<OrganizationId, VecDeque<oneshot::Sender<Permit>>>,
    /// Organizations with waiting tasks; the first one is served next.
    order: VecDeque<OrganizationId>,
}

/// The right to read one event; returned to the queue on drop.
#[derive(Debug)]
pub struct Permit {
    organization: OrganizationId,
    /// `None` once the permit was returned.
    queue: Option<Arc<Shared>>,
}

impl FairQueue {
    /// A queue with this many permits. It has at least two, so that one organization cannot hold
    /// all.
    pub fn new(permits: usize) -> Self {
        let free = permits.max(2);
        let state =
            State { free, held: HashMap::new(), waiting: HashMap::new(), order: VecDeque::new() };
        Self(Arc::new(Shared { by_organization: free / 2, state: Mutex::new(state) }))
    }

    /// Waits for a permit. Cancelling the wait only gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// Never in practice, because the queue lives as long as its waiters.
    pub async fn permit(&self, organization: OrganizationId) -> Result<Permit> {
        let granted = {
            let mut state = self.0.state.lock();
            // While a permit is free, all waiters belong to organizations that hold their full
            // share.
            if state.free > 0 && state.held_by(organization) < self.0.by_organization {
                return Ok(self.0.grant(&mut state, organization));
            }
            let (sender, granted) = oneshot::channel();
            let waiting = state.waiting.entry(organization).or_default();
            let is_first = waiting.is_empty();
            waiting.push_back(sender);
            if is_first {
                state.order.push_back(organization);
            }
            granted
        };
        granted.await.map_err(Error::internal)
    }
}

impl Shared {
    fn grant(self: &Arc<Self>, state: &mut State, organization: OrganizationId) -> Permit {
        state.free -= 1;
        *state.held.entry(organization).or_default() += 1;
        Permit { organization, queue: Some(Arc::clone(self)) }
    }

    fn put_back(self: &Arc<Self>, organization: OrganizationId) {
        let mut state = self.state.lock();
        state.put_back(organization);
        let mut passed_over = 0;
        while state.free > 0 && passed_over < state.order.len() {
            let Some(next) = state.order.pop_front() else { return };
            if state.held_by(next) >= self.by_organization {
                state.order.push_back(next);
                passed_over += 1;
                continue;
            }
            let Some(waiter) = state.next_waiter(next) else { continue };
            passed_over = 0;
            let permit = self.grant(&mut state, next);
            if let Err(mut unused) = waiter.send(permit) {
                // This thread holds the lock, so the permit's drop must not take it again.
                unused.queue = None;
                state.put_back(next);
            }
        }
    }
}

impl State {
    fn held_by(&self, organization: OrganizationId) -> usize {
        self.held.get(&organization).copied().unwrap_or_default()
    }

    fn put_back(&mut self, organization: OrganizationId) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(&organization) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&organization);
            }
        }
    }

    /// Takes the first waiter of an organization. If more of them wait, the organization moves to
    /// the end of the order.
    fn next_waiter(&mut self, organization: OrganizationId) -> Option<oneshot::Sender<Permit>> {
        let waiting = self.waiting.get_mut(&organization)?;
        let waiter = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&organization);
        } else {
            self.order.push_back(organization);
        }
        waiter
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.put_back(self.organization);
        }
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
        let state = queue.0.state.lock();
        assert_eq!(state.free, 2);
        assert!(state.held.is_empty() && state.waiting.is_empty() && state.order.is_empty());
    }
}
