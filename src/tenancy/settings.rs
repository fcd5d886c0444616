//! What operations need to know beyond the database.

use std::{num::NonZeroU32, sync::Arc};

use clap::ValueEnum;

use crate::{clock::Clock, stripe::Stripe};

/// Time and rules, the same for every session of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time.
    pub clock: Clock,
    /// The rules that the operator set.
    pub business: Arc<BusinessSettings>,
}

/// Business rules that are settings.
#[derive(Clone, Debug)]
pub struct BusinessSettings {
    /// How long an organization keeps its plan after a payment failed.
    pub billing_grace: chrono::Duration,
    /// How long a trial lasts.
    pub trial_term: chrono::Duration,
    /// How many organizations a person may own before they can found no more.
    pub max_owned_organizations: u32,
    /// How long an invitation can be accepted.
    pub invitation_term: chrono::Duration,
    /// What makes the tokens of invitations, and seals kept answers.
    pub secret_keys: SecretKeys,
    /// Which identities become one user.
    pub account_linking: AccountLinking,
    /// Invitations go out by mail; otherwise the inviter is shown the link.
    pub mails_invitations: bool,
    /// How many invitation e-mails an organization may send in 24 hours.
    pub max_invitation_mails: NonZeroU32,
    /// Where the links of invitations lead, without a slash at the end.
    pub public_url: String,
    /// Stripe, where it keeps the subscriptions; without it owners change plans themselves.
    pub stripe: Option<Stripe>,
}

/// When an identity that is seen for the first time gets the user who has its verified address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountLinking {
    /// Never: each identity has its own user.
    Never,
    /// When an identity of the same issuer has vouched for the address.
    SameIssuer,
    /// Whichever issuer vouches for the address: each can give any account away.
    VerifiedEmail,
}

impl AccountLinking {
    /// As `auth.provision_user` names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::SameIssuer => "same-issuer",
            Self::VerifiedEmail => "verified-email",
        }
    }
}

/// The keys behind what only this service can make or read, at least one, newest first; never
/// shown. The newest makes, all read.
#[derive(Clone)]
pub struct SecretKeys(pub Vec<Vec<u8>>);

impl SecretKeys {
    /// The newest.
    pub(crate) fn newest(&self) -> &[u8] {
        self.all().next().unwrap_or_default()
    }

    /// All of them, newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretKeys(…)")
    }
}
