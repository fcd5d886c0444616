//! Billing: the state of an organization's subscription, managed by its owners or by Stripe.

mod graphql;
mod inbox;
mod ops;
mod settings;
mod state;
mod stripe;
mod subscription_sync;

pub use graphql::{Billing, BillingMutation};
pub use inbox::{Outcome, apply, receive};
pub use ops::{create, get, has_live_subscription};
pub use settings::Settings;
