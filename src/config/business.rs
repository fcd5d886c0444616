//! Business rules that are settings.

use std::sync::Arc;

use clap::Args;

use super::{BillingConfig, ConfigError, MailConfig, secrets::secrets};
use crate::{
    clock::Clock,
    tenancy::{AccountLinking, BusinessSettings, SecretKeys, Settings},
};

/// Business rules.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Business rules")]
pub struct BusinessConfig {
    /// Days for which an organization keeps its plan after a payment failed.
    #[arg(
        long,
        env = "BILLING_GRACE_DAYS",
        value_name = "BILLING_GRACE_DAYS",
        default_value_t = 7
    )]
    pub billing_grace_days: u16,

    /// Days for which a trial lasts.
    #[arg(
        long,
        env = "TRIAL_DAYS",
        value_name = "TRIAL_DAYS",
        default_value_t = 14,
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub trial_days: u16,

    /// How many organizations a person may own before they can found no more.
    #[arg(
        long,
        env = "MAX_OWNED_ORGANIZATIONS",
        value_name = "MAX_OWNED_ORGANIZATIONS",
        default_value_t = 10
    )]
    pub max_owned_organizations: u32,

    /// Days for which an invitation can be accepted.
    #[arg(
        long,
        env = "INVITATION_DAYS",
        value_name = "INVITATION_DAYS",
        default_value_t = 7,
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub invitation_days: u16,

    /// The secret behind the links of invitations, and behind answers that are kept: at least 32
    /// bytes. While it is rotated NEW,OLD.
    #[arg(long, env = "SECRET_KEY", value_name = "SECRET_KEY", hide_env_values = true)]
    pub secret_key: Option<String>,

    /// Which identities become one user by a verified e-mail address: never, of the same issuer, or
    /// of all issuers.
    #[arg(long, env = "ACCOUNT_LINKING", value_name = "ACCOUNT_LINKING", default_value = "never")]
    pub account_linking: AccountLinking,

    /// Where people reach your application; links of invitations begin with it.
    #[arg(
        long,
        env = "PUBLIC_URL",
        value_name = "PUBLIC_URL",
        default_value = "http://127.0.0.1:4000"
    )]
    pub public_url: url::Url,

    #[command(flatten)]
    pub mail: MailConfig,

    #[command(flatten)]
    pub billing: BillingConfig,
}

impl BusinessConfig {
    /// Time and rules for operations.
    ///
    /// # Errors
    ///
    /// Without a secret key, or with one that is too short.
    pub fn settings(&self, clock: Clock) -> Result<Settings, ConfigError> {
        let text = self.secret_key.as_deref().ok_or_else(|| {
            ConfigError(
                "SECRET_KEY is not set: it must have at least 32 bytes, for example from openssl rand -hex 32"
                    .to_owned(),
            )
        })?;
        let keys = secrets("SECRET_KEY", text)?.into_iter().map(|key| key.as_bytes().to_vec());
        self.with_keys(clock, SecretKeys(keys.collect()))
    }

    /// As [`settings`](Self::environment), for commands that invite nobody: they need no secret
    /// key.
    ///
    /// # Errors
    ///
    /// When a setting is wrong.
    pub fn settings_for_maintenance(&self, clock: Clock) -> Result<Settings, ConfigError> {
        self.with_keys(clock, SecretKeys(vec![uuid::Uuid::new_v4().as_bytes().to_vec()]))
    }

    fn with_keys(&self, clock: Clock, secret_keys: SecretKeys) -> Result<Settings, ConfigError> {
        let business = BusinessSettings {
            billing_grace: chrono::Duration::days(self.billing_grace_days.into()),
            trial_term: chrono::Duration::days(self.trial_days.into()),
            max_owned_organizations: self.max_owned_organizations,
            invitation_term: chrono::Duration::days(self.invitation_days.into()),
            secret_keys,
            account_linking: self.account_linking,
            mails_invitations: self.mail.smtp_url.is_some(),
            max_invitation_mails: self.mail.max_invitation_mails,
            public_url: self.public_url.as_str().trim_end_matches('/').to_owned(),
            stripe: self.billing.stripe()?,
        };
        Ok(Settings { clock, business: Arc::new(business) })
    }
}
