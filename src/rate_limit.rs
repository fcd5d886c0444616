//! How many calls an organization has left: what the headers `RateLimit-*` tell.

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
