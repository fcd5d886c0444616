//! Limits in time: how many calls an organization has left (what the headers `RateLimit-*` tell),
//! and what there is too much of.

/// The state of a limit after a call was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Calls of a period.
    pub limit: i64,
    /// Calls that are left of it.
    pub remaining: i64,
    /// Seconds until the next period.
    pub reset: i64,
}

/// What somebody does too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Throttle {
    /// An organization's requests, or those of a person, wait for each other for too long.
    #[error("too many requests run at the same time")]
    Running,
    /// More of them wait than may.
    #[error("too many requests wait")]
    Waiting,
    /// Callers outside organizations, or new documents, wait for each other for too long, or too
    /// many of them wait.
    #[error("too many requests outside organizations, or with new documents, run at the same time")]
    Shared,
    /// A user or an address sends more operations than it may.
    #[error("too many operations")]
    Rate,
    /// Something is tried again and again.
    #[error("too many attempts")]
    Attempts,
    /// A user has too many subscriptions open.
    #[error("this user has too many subscriptions open: end some")]
    SubscriptionsOfUser,
    /// The members of an organization together do.
    #[error("this organization has too many subscriptions open: end some")]
    SubscriptionsOfOrganization,
    /// An organization's invitations go out by mail.
    #[error("the organization has sent as many invitation e-mails as it may in 24 hours")]
    InvitationMails,
}
