//! What operations need besides the database: the clock and the operator's business settings.

use std::{num::NonZeroU32, sync::Arc};

use clap::ValueEnum;
use stripe::Stripe;

use crate::clock::Clock;

/// The clock and the business settings, the same for all sessions of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The clock.
    pub clock: Clock,
    /// The business settings.
    pub business: Arc<BusinessSettings>,
}

/// The operator's business settings.
#[derive(Clone, Debug)]
pub struct BusinessSettings {
    /// How long an organization keeps its plan after a failed payment.
    pub billing_grace: chrono::Duration,
    /// How long a trial lasts.
    pub trial_term: chrono::Duration,
    /// How many organizations a user may own before creating another one is refused.
    pub max_owned_organizations: u32,
    /// How long an invitation is valid.
    pub invitation_term: chrono::Duration,
    /// The keys that derive invitation tokens and encrypt stored responses.
    pub secret_keys: SecretKeys,
    /// When two identities share one user.
    pub account_linking: AccountLinking,
    /// Whether invitations are sent by e-mail. If not, the inviter gets the link.
    pub mails_invitations: bool,
    /// The maximum number of invitation e-mails of an organization in 24 hours.
    pub max_invitation_mails: NonZeroU32,
    /// The base URL of invitation links, without a trailing slash.
    pub public_url: String,
    /// The Stripe client, if Stripe manages subscriptions. Without it owners change plans
    /// themselves.
    pub stripe: Option<Stripe>,
}

/// When a new identity with a verified e-mail address joins the user that has this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountLinking {
    /// Never; each identity has its own user.
    Never,
    /// When an identity of the same issuer has verified the address.
    SameIssuer,
    /// Whichever issuer verified the address. Every trusted issuer can then give access to any
    /// account.
    VerifiedEmail,
}

impl AccountLinking {
    /// The name in `auth.provision_user`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::SameIssuer => "same-issuer",
            Self::VerifiedEmail => "verified-email",
        }
    }
}

/// Secret keys, newest first, at least one; `Debug` never shows them. The newest key creates tokens
/// and encrypts; all keys verify and decrypt.
#[derive(Clone)]
pub struct SecretKeys(pub Vec<Vec<u8>>);

impl SecretKeys {
    /// The newest key.
    pub(crate) fn newest(&self) -> &[u8] {
        self.all().next().unwrap_or_default()
    }

    /// All keys, newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretKeys(…)")
    }
}
