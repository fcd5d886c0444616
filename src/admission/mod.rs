//! Admission: what a request must pass before it may cost anything. Turns bound what runs at the same time for one organization or
//! person, so that nobody starves the others (`gate.rs`); attempts bound what could be guessed (`attempts.rs`). Subscriptions
//! are limited in number (`subscriptions.rs`), and organizations read their events round robin (`fair_queue.rs`).

mod attempts;
mod fair_queue;
mod gate;
mod subscriptions;

pub use attempts::{Attempts, network};
pub use fair_queue::{FairQueue, Permit};
pub use gate::{AdmissionLimits, Gates, Turn};
pub use subscriptions::{OpenSubscription, OpenSubscriptions, SubscriptionLimits};
