//! The results of limits: how many calls an organization has left (sent as `RateLimit-*` headers),
//! and which limit refused a request.

/// The state of a call limit after a call was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Calls allowed in the period.
    pub limit: i64,
    /// Calls left in the period.
    pub remaining: i64,
    /// Seconds until the next period starts.
    pub reset: i64,
}

/// The limit that refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Throttle {
    /// A request of an organization waited too long for others of the same organization.
    #[error("too many requests of this organization are running")]
    Running,
    /// Too many requests of an organization are waiting already.
    #[error("too many requests of this organization are waiting")]
    Waiting,
    /// A request from outside organizations, or one with a new document, waited too long, or too
    /// many of that kind are waiting already.
    #[error("too many requests outside organizations, or with new documents, are running")]
    Shared,
    /// A user or an address sent too many operations.
    #[error("too many operations from this user or address")]
    Rate,
    /// A user or an address tried too often to guess a secret or to send e-mail.
    #[error("too many attempts from this user or address")]
    Attempts,
    /// The user has reached the limit of open subscriptions.
    #[error("this user has too many open subscriptions (close some)")]
    SubscriptionsOfUser,
    /// The members of an organization have together reached its limit of open subscriptions.
    #[error("this organization has too many open subscriptions (close some)")]
    SubscriptionsOfOrganization,
    /// The organization has reached its limit of invitation e-mails.
    #[error("this organization has reached its limit of invitation e-mails in 24 hours")]
    InvitationMails,
}
