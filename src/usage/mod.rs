//! Usage: how much of its plan's features an organization uses, and the meter that counts its API
//! calls.

mod counter;
mod graphql;
mod meter;
mod ops;

pub use graphql::{Entitlement, UsageSubscription};
pub use meter::Meter;
pub use ops::{Entitlement as Allotment, entitlements};
