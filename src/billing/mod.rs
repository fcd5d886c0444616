//! Billing: the state of an organization's subscription.

mod graphql;
mod ops;

pub use graphql::{Billing, BillingMutation};
pub use ops::{create, get, has_live_subscription};
