//! The operator's settings of invitations.

use std::num::NonZeroU32;

/// The settings of invitations.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an invitation is valid.
    pub term: chrono::Duration,
    /// The base URL of invitation links, without a trailing slash.
    pub public_url: String,
    /// Whether invitations are sent by e-mail. If not, the inviter gets the link.
    pub sends_mail: bool,
    /// The maximum number of invitation e-mails of an organization in 24 hours.
    pub max_mails: NonZeroU32,
}
