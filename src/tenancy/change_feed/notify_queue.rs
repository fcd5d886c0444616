//! Committed changes that wait to be published, by organization. Their number is limited. Over the
//! limit, the organization with the most changes loses them and its subscribers are disconnected,
//! so no organization can disconnect the subscribers of another.

use std::collections::{HashMap, HashSet};

use entity::OrganizationId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Change;

/// The maximum number of pending changes.
const MOST: usize = 10_000;

/// The queue of changes.
#[derive(Debug, Default)]
pub(super) struct NotifyQueue {
    batch: Mutex<Batch>,
    arrived: Notify,
}

/// Changes that are published together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    count: usize,
    changes: HashMap<OrganizationId, Changes>,
    /// Organizations that had too many changes.
    lost: HashSet<OrganizationId>,
}

/// The changes of one organization without duplicates, in commit order.
#[derive(Debug, Default)]
struct Changes {
    ordered: Vec<Change>,
    known: HashSet<Change>,
}

impl NotifyQueue {
    /// Adds changes; skips a change that is pending already.
    pub(super) fn add(&self, changes: impl IntoIterator<Item = (OrganizationId, Change)>) {
        let mut batch = self.batch.lock();
        for (organization, change) in changes {
            batch.add(organization, change);
        }
        drop(batch);
        self.arrived.notify_one();
    }

    /// Takes all pending changes.
    pub(super) fn take(&self) -> Batch {
        std::mem::take(&mut self.batch.lock())
    }

    /// Returns changes that could not be published. Newer changes may then be published before
    /// them.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut waiting = self.batch.lock();
        for organization in batch.lost {
            waiting.lose(organization);
        }
        for (organization, changes) in batch.changes {
            for change in changes.ordered {
                waiting.add(organization, change);
            }
        }
    }

    /// Resolves when changes were added since the last call.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.lost.is_empty()
    }

    /// The changes of each organization.
    pub(super) fn changes(&self) -> impl Iterator<Item = (OrganizationId, &[Change])> {
        self.changes
            .iter()
            .map(|(organization, changes)| (*organization, changes.ordered.as_slice()))
    }

    /// The organizations whose subscribers must be disconnected.
    pub(super) fn lost(&self) -> impl Iterator<Item = OrganizationId> {
        self.lost.iter().copied()
    }

    fn add(&mut self, organization: OrganizationId, change: Change) {
        if self.lost.contains(&organization) {
            return;
        }
        let changes = self.changes.entry(organization).or_default();
        if !changes.known.insert(change.clone()) {
            return;
        }
        changes.ordered.push(change);
        self.count += 1;
        if self.count > MOST {
            let most = self.changes.iter().max_by_key(|(_, changes)| changes.ordered.len());
            if let Some(loser) = most.map(|(organization, _)| *organization) {
                self.lose(loser);
            }
        }
    }

    fn lose(&mut self, organization: OrganizationId) {
        let changes = self.changes.remove(&organization);
        self.count -= changes.map_or(0, |changes| changes.ordered.len());
        self.lost.insert(organization);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn organization(number: u128) -> OrganizationId {
        OrganizationId(Uuid::from_u128(number))
    }

    fn changes(of: u128, count: usize) -> impl Iterator<Item = (OrganizationId, Change)> {
        let ids = (0..count as u128).map(|id| Change::of("row", Uuid::from_u128(id)));
        ids.map(move |change| (organization(of), change))
    }

    #[test]
    fn only_the_organization_with_the_most_changes_loses_any() {
        let pending = NotifyQueue::default();
        pending.add(changes(1, 100));
        pending.add(changes(2, 3 * MOST));
        pending.add(changes(1, 200));
        let batch = pending.take();
        assert_eq!(batch.lost().collect::<Vec<_>>(), [organization(2)]);
        let kept: Vec<_> =
            batch.changes().map(|(organization, changes)| (organization, changes.len())).collect();
        assert_eq!(kept, [(organization(1), 200)]);
        pending.put_back(batch);
        pending.add(changes(2, 1));
        let batch = pending.take();
        assert_eq!((batch.count, batch.lost().count()), (200, 1));
        assert!(pending.take().is_empty());
    }
}
