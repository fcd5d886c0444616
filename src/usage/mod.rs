//! Usage: how much of its plan's features an organization uses, and the meter that counts its API
//! calls.

mod call_meter;
mod counter;
mod graphql;
mod lease;
mod ops;
mod usage_writer;

pub use call_meter::Meter;
pub use graphql::{Entitlement, UsageSubscription};
pub use ops::{Entitlement as Allotment, entitlements};
