//! What operations need to know beyond the database.

use std::{num::NonZeroU32, sync::Arc};

use crate::{clock::Clock, stripe::Stripe};

/// Time and rules, the same for every session of a server.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The time.
    pub clock: Clock,
    /// The rules that the operator set.
    pub rules: Arc<Rules>,
}

/// Business rules that are settings.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How long an organization keeps its plan after a payment failed.
    pub billing_grace: chrono::Duration,
    /// How long a trial lasts.
    pub trial_term: chrono::Duration,
    /// How many organizations a person may own before they can found no more.
    pub max_owned_organizations: u32,
    /// How long an invitation can be accepted.
    pub invitation_term: chrono::Duration,
    /// What makes the tokens of invitations, and seals kept answers.
    pub secret_key: SecretKey,
    /// Invitations go out by mail; otherwise the inviter is shown the link.
    pub mails_invitations: bool,
    /// How many invitation e-mails an organization may send in 24 hours.
    pub max_invitation_mails: NonZeroU32,
    /// Where the links of invitations lead, without a slash at the end.
    pub public_url: String,
    /// Stripe, where it keeps the subscriptions; without it owners change plans themselves.
    pub stripe: Option<Stripe>,
}

/// The key behind what only this service can make or read; never shown.
#[derive(Clone)]
pub struct SecretKey(pub Vec<u8>);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretKey(…)")
    }
}
