//! Limits how many subscriptions a user and an organization may have open at the same time. Each
//! server counts separately.

use std::{collections::HashMap, sync::Arc};

use entity::{OrganizationId, UserId};
use parking_lot::Mutex;

use crate::{
    error::{Error, Result},
    rate_limit::Throttle,
};

/// Seconds until a refused client should retry. Other subscriptions rarely close sooner.
const RETRY_AFTER: u64 = 30;

/// The limits of open subscriptions.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionLimits {
    /// Per user, across all organizations.
    pub by_user: usize,
    /// Per organization, across all its members.
    pub by_organization: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    User(UserId),
    Organization(OrganizationId),
}

/// Counts open subscriptions; cheap to clone.
#[derive(Clone, Debug)]
pub struct OpenSubscriptions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: SubscriptionLimits,
    open: Mutex<HashMap<Owner, usize>>,
}

/// Counts as one open subscription until it is dropped.
#[derive(Debug)]
pub struct OpenSubscription {
    owners: [Owner; 2],
    shared: Arc<Shared>,
}

impl OpenSubscriptions {
    /// Starts without open subscriptions.
    pub fn new(limits: SubscriptionLimits) -> Self {
        Self(Arc::new(Shared { limits, open: Mutex::default() }))
    }

    /// Counts one more subscription.
    pub fn open(&self, user: UserId, organization: OrganizationId) -> Result<OpenSubscription> {
        let owners = [Owner::User(user), Owner::Organization(organization)];
        let SubscriptionLimits { by_user, by_organization } = self.0.limits;
        let mut open = self.0.open.lock();
        let count = |owner| open.get(&owner).copied().unwrap_or_default();
        let throttle = if count(owners[0]) >= by_user {
            Some(Throttle::SubscriptionsOfUser)
        } else if count(owners[1]) >= by_organization {
            Some(Throttle::SubscriptionsOfOrganization)
        } else {
            None
        };
        if let Some(throttle) = throttle {
            return Err(Error::RateLimited { throttle, retry_after: RETRY_AFTER });
        }
        for owner in owners {
            *open.entry(owner).or_default() += 1;
        }
        Ok(OpenSubscription { owners, shared: Arc::clone(&self.0) })
    }
}

impl Drop for OpenSubscription {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock();
        for owner in self.owners {
            if let Some(count) = open.get_mut(&owner) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&owner);
                }
            }
        }
    }
}
