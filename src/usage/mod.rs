//! Usage: how much of its plan's features an organization uses, the meters of a team's features,
//! and the meter that counts API calls.

mod call_meter;
mod counter;
mod entitlement;
mod graphql;
mod lease;
mod metering;
mod plan_cache;
mod usage_writer;

pub use call_meter::Meter;
pub use entitlement::{DECLARED, Entitlement as Allotment, entitlements};
pub use graphql::{
    Entitlement, UsageMutation, UsagePeriod, UsageSubscription, entitlement, list_entitlements,
    usage,
};

/// The key of the feature that limits API calls.
const API_CALLS_PER_MONTH: &str = "api_calls_per_month";
