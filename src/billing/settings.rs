//! The operator's settings of billing.

use stripe::Stripe;

/// The settings of billing.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The plan that new organizations try. Without it they start with the default plan.
    pub trial_plan: Option<String>,
    /// How long a trial lasts.
    pub trial_term: chrono::Duration,
    /// The base URL of the application, to which Stripe's pages return, without a trailing slash.
    pub public_url: String,
    /// The Stripe client, if Stripe manages subscriptions. Without it owners change plans
    /// themselves.
    pub stripe: Option<Stripe>,
}
