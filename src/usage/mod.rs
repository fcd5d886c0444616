//! Usage: how much of its plan's features an organization uses, the meters of a team's features,
//! and the meter that counts API calls.

mod area;
mod call_meter;
mod counter;
mod entitlement;
mod graphql;
mod lease;
mod metering;
mod plan_cache;
mod usage_writer;

pub use area::UsageArea;
pub use call_meter::Meter;
pub(crate) use entitlement::{Entitlements, declared_features, entitlements};

/// The key of the feature that limits API calls.
const API_CALLS_PER_MONTH: &str = "api_calls_per_month";
