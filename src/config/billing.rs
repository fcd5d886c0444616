//! Settings of billing. With Stripe, both its secrets are required.

use clap::{Args, ValueEnum};
use stripe::{Stripe, StripeOptions};
use url::Url;

use super::{ConfigError, required};
use crate::seats::{Proration, SeatsMode};

/// Which system manages subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BillingProvider {
    /// None: owners change plans themselves, free of charge.
    Manual,
    /// Stripe.
    Stripe,
}

/// Billing.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Billing")]
pub struct BillingConfig {
    /// Which system manages subscriptions: manual lets owners change plans free of charge.
    #[arg(long, env, default_value = "manual")]
    pub billing_provider: BillingProvider,

    /// Stripe's secret key: sk_… or rk_…
    #[arg(long, env, hide_env_values = true)]
    pub stripe_secret_key: Option<String>,

    /// The signing secret of the webhook at /webhooks/stripe: whsec_… Give two, separated by a
    /// comma, during a rotation.
    #[arg(long, env, value_delimiter = ',', hide_env_values = true)]
    pub stripe_webhook_secret: Vec<String>,

    /// What the quantity of a price per seat means. sync: it follows the number of members and
    /// open invitations. cap: owners buy seats, and the team cannot outgrow them.
    #[arg(long, env, default_value = "sync")]
    pub billing_seats: SeatsMode,

    /// How Stripe charges a change of the seats within a period: create_prorations (with the next
    /// invoice), always_invoice (immediately) or none.
    #[arg(long, env, default_value = "create_prorations")]
    pub billing_proration: Proration,

    /// The base address of Stripe's API.
    #[arg(long, env, default_value = "https://api.stripe.com/")]
    pub stripe_api_base: Url,
}

impl BillingConfig {
    /// Returns the Stripe client, or `None` with manual billing.
    pub fn stripe(&self) -> Result<Option<Stripe>, ConfigError> {
        if self.billing_provider == BillingProvider::Manual {
            return Ok(None);
        }
        let remedy = "BILLING_PROVIDER=stripe requires it.";
        let present = |text: &&String| !text.trim().is_empty();
        let secret_key = self.stripe_secret_key.as_ref().filter(present);
        let webhook_secrets: Vec<String> = self
            .stripe_webhook_secret
            .iter()
            .filter(present)
            .map(|text| text.trim().to_owned())
            .collect();
        required("STRIPE_WEBHOOK_SECRET", webhook_secrets.first(), remedy)?;
        // Both kinds are on the page of Stripe's dashboard from which this one is copied.
        if secret_key.is_some_and(|key| ["pk_", "whsec_"].iter().any(|kind| key.starts_with(kind)))
        {
            return Err(ConfigError::new(
                "STRIPE_SECRET_KEY is not a secret key. It begins with sk_ or rk_.",
            ));
        }
        let mut base = self.stripe_api_base.clone();
        if base.scheme() != "https" && !super::is_loopback(&base) {
            return Err(ConfigError::new(
                "STRIPE_API_BASE must begin with https://, because the secret key is sent there.",
            ));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let options = StripeOptions {
            base,
            secret_key: required("STRIPE_SECRET_KEY", secret_key, remedy)?.trim().to_owned(),
            webhook_secrets,
        };
        Stripe::new(options).map(Some).map_err(|error| ConfigError(error.to_string()))
    }
}
