//! Usage: how much of what its plan allows an organization has used, and the meter that counts its
//! calls.

mod counter;
mod graphql;
mod meter;
mod ops;

pub use graphql::{Entitlement, UsageSubscription};
pub use meter::Meter;
pub use ops::{Entitlement as Allotment, entitlements};
