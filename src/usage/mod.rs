//! Usage: how much of what its plan allows an organization has used.

mod graphql;
mod ops;

pub use graphql::Entitlement;
pub use ops::entitlements;
