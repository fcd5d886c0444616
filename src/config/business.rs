//! Settings of business rules: grace period, trial, quotas, invitations and account linking.

use std::sync::Arc;

use clap::{Args, builder::NonEmptyStringValueParser};

use super::{
    AllSettings, BillingConfig, ConfigError, MailConfig, required, secret_rotation::secrets,
};
use crate::{
    billing,
    clock::Clock,
    invitation, organization, plan, seats,
    tenancy::{AccountLinking, SecretKeys, Settings},
};

/// Business rules.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Business rules")]
pub struct BusinessConfig {
    /// Days for which an organization keeps its plan after a failed payment.
    #[arg(long, env, default_value_t = 7)]
    pub billing_grace_days: u16,

    /// The key of the plan that new organizations try for TRIAL_DAYS, for example pro. Without it
    /// they start with the default plan.
    #[arg(long, env, value_parser = NonEmptyStringValueParser::new())]
    pub trial_plan: Option<String>,

    /// Days that a trial lasts.
    #[arg(long, env, default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..))]
    pub trial_days: u16,

    /// Organizations that a user may own before creating another one is refused.
    #[arg(long, env, default_value_t = 10)]
    pub max_owned_organizations: u32,

    /// Days for which an invitation can be accepted.
    #[arg(long, env, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    pub invitation_days: u16,

    /// The secret that derives invitation links and encrypts stored responses, at least 32 bytes.
    /// During a rotation NEW,OLD.
    #[arg(long, env, hide_env_values = true)]
    pub secret_key: Option<String>,

    /// Which identities with the same verified e-mail address become one user: none (never), those
    /// of the same issuer, or those of all issuers.
    #[arg(long, env, default_value = "never")]
    pub account_linking: AccountLinking,

    /// The address of your application. Invitation links begin with it.
    #[arg(long, env, default_value = "http://127.0.0.1:4000")]
    pub public_url: url::Url,

    #[command(flatten)]
    pub mail: MailConfig,

    #[command(flatten)]
    pub billing: BillingConfig,
}

impl BusinessConfig {
    /// Returns the clock and the settings of sessions.
    pub fn settings(&self, clock: Clock) -> Result<Settings, ConfigError> {
        let remedy = "Set it to at least 32 bytes, for example from openssl rand -hex 32.";
        let text = required("SECRET_KEY", self.secret_key.as_deref(), remedy)?;
        let keys = secrets("SECRET_KEY", text)?.into_iter().map(|key| key.as_bytes().to_vec());
        self.with_keys(clock, SecretKeys::new(keys.collect()))
    }

    /// As [`settings`](Self::settings), for commands that create no invitations and therefore
    /// need no secret key.
    pub fn settings_for_maintenance(&self, clock: Clock) -> Result<Settings, ConfigError> {
        self.with_keys(clock, SecretKeys::new(vec![uuid::Uuid::new_v4().as_bytes().to_vec()]))
    }

    fn with_keys(&self, clock: Clock, secret_keys: SecretKeys) -> Result<Settings, ConfigError> {
        let public_url = self.public_url.as_str().trim_end_matches('/').to_owned();
        let stripe = self.billing.stripe()?;
        let areas = AllSettings {
            seats: seats::Settings {
                mode: stripe.as_ref().map(|_| self.billing.billing_seats),
                proration: self.billing.billing_proration,
            },
            billing: billing::Settings {
                trial_term: chrono::Duration::days(self.trial_days.into()),
                trial_plan: self.trial_plan.clone(),
                public_url: public_url.clone(),
                stripe,
            },
            invitation: invitation::Settings {
                term: chrono::Duration::days(self.invitation_days.into()),
                public_url,
                sends_mail: self.mail.smtp_url.is_some(),
                max_mails: self.mail.max_invitation_mails,
            },
            organization: organization::Settings { max_owned: self.max_owned_organizations },
            plan: plan::Settings { grace: chrono::Duration::days(self.billing_grace_days.into()) },
        };
        Ok(Settings {
            clock,
            secret_keys: Arc::new(secret_keys),
            account_linking: self.account_linking,
            areas: areas.assemble(),
        })
    }
}
