//! Admission: the limits that a request passes before it may consume resources.
//! [`ConcurrencyLimiter`] limits concurrency per organization, for callers outside organizations,
//! and for new documents, so that none of them starves the others. [`RateLimiter`] limits
//! operations, and [`AttemptLimiter`] attempts at secrets, per user and per address.
//! `OpenSubscriptions` limits subscriptions, and `FairQueue` lets organizations read their
//! events in turn.

mod attempt_limiter;
mod concurrency;
mod fair_queue;
mod rate_limiter;
mod subscriptions;

use std::net::IpAddr;

use crate::auth::Caller;

pub use attempt_limiter::AttemptLimiter;
pub use concurrency::{AdmissionLimits, ConcurrencyLimiter};
pub use rate_limiter::RateLimiter;
pub use subscriptions::SubscriptionLimits;

pub(crate) use concurrency::ConcurrencyPermit;
pub(crate) use fair_queue::{FairQueue, Permit};
pub(crate) use rate_limiter::network;
pub(crate) use subscriptions::{OpenSubscription, OpenSubscriptions};

/// The user and the address that a request counts against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'request> {
    /// The caller; `None` without a token.
    pub caller: Option<&'request Caller>,
    /// The client's address, if it is known.
    pub address: Option<IpAddr>,
}
