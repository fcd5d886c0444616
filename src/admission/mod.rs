//! Admission: what a request must pass before it may cost anything. Turns bound what runs at the
//! same time for one organization, for all callers outside organizations, and for new documents, so
//! that none starves the others (`gate.rs`). Rates bound how often a user and an address may do
//! something (`rate.rs`); attempts are the rates of what could be guessed (`attempts.rs`).
//! Subscriptions are limited in number (`subscriptions.rs`), and organizations read their events
//! round robin (`fair_queue.rs`).

mod attempt_limiter;
mod concurrency;
mod fair_queue;
mod rate_limiter;
mod subscriptions;

use std::net::IpAddr;

use crate::auth::Caller;

pub use attempt_limiter::AttemptLimiter;
pub use concurrency::{AdmissionLimits, ConcurrencyLimiter, ConcurrencyPermit};
pub use fair_queue::{FairQueue, Permit};
pub use rate_limiter::{RateLimiter, network};
pub use subscriptions::{OpenSubscription, OpenSubscriptions, SubscriptionLimits};

/// What a request is counted for: its caller, if it has one, and the client's address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'request> {
    /// The caller; `None` without a token.
    pub caller: Option<&'request Caller>,
    /// The client's address, where there is one.
    pub address: Option<IpAddr>,
}
