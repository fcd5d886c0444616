//! The errors of the application, one variant for each thing a client can do about an error.
//!
//! `Display` is the text for clients, `source()` the cause for the log, and `code()` the contract.

use std::sync::Arc;

use async_graphql::Enum;
use pg::ErrorKind;
pub use pg::Exceeded;
use sea_orm::DbErr;

use crate::{
    enum_name::enum_name,
    permission::Permission,
    rate_limit::{RateLimit, Throttle},
};

/// The result of operations whose errors are reported to clients.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The hidden cause of an error. It is shared, because one failed batch fails many fields.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// A value of `extensions.code` in an error. Codes are never renamed. New ones may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum ErrorCode {
    /// The token is missing, malformed, expired or not signed as required. HTTP 401.
    Unauthenticated,
    /// The path and the token name different organizations. HTTP 403.
    OrganizationMismatch,
    /// The organization, or the object named in a mutation, does not exist or is not visible to the
    /// caller. HTTP 404 for the organization, HTTP 200 for an object.
    NotFound,
    /// The caller's role lacks the required permission, which is in `extensions.permission`.
    Forbidden,
    /// The operator has suspended the organization. Its owners can still read billing and pay. If
    /// `Organization.suspension` is `READ_ONLY`, members can also read everything else. HTTP 403 if
    /// the whole request is refused.
    OrganizationSuspended,
    /// The operator has suspended the user. HTTP 403.
    UserSuspended,
    /// The field requires an organization, but neither the path nor the token names one.
    OrganizationRequired,
    /// An argument is invalid. `extensions.field` names it.
    BadUserInput,
    /// The change conflicts with the current state, for example because a slug is taken.
    Conflict,
    /// The invitation is for an e-mail address that the signed-in account does not have.
    WrongAccount,
    /// The identity provider has not verified the e-mail address of the signed-in account.
    AddressNotVerified,
    /// The plan's limit is reached. `extensions.feature` and `extensions.limit` name it. For API
    /// calls: HTTP 429 with `Retry-After`.
    PlanLimitExceeded,
    /// Too many requests: HTTP 429 with `Retry-After`. Too many invitation e-mails: HTTP 200. Wait
    /// for `extensions.retryAfter` seconds.
    RateLimited,
    /// The idempotency key cannot be used for this request. HTTP 409. With `extensions.retryAfter`,
    /// the first request with this key is still running. Otherwise the key belongs to a different
    /// request, or its response cannot be repeated: it was too long, or the caller's role has
    /// become lower since.
    IdempotencyConflict,
    /// The document is not valid GraphQL syntax. HTTP 400, or 200 for `application/json`.
    GraphqlParseFailed,
    /// The document does not match the schema or breaks a validation rule. HTTP 400, or 200 for
    /// `application/json`.
    GraphqlValidationFailed,
    /// The document exceeds a limit on size, depth or complexity, or its execution needs too many
    /// SQL statements or too large a response. Nothing was written. HTTP 400, or 200 for
    /// `application/json`.
    QueryTooComplex,
    /// The persisted query is unknown. Send it again with its text. HTTP 400, or 200 for
    /// `application/json`.
    PersistedQueryNotFound,
    /// The request is not a valid GraphQL-over-HTTP request. HTTP 400, 405, 406, 408, 413 or 415.
    UnsupportedRequest,
    /// The request took too long and was rolled back. HTTP 504 with `Retry-After`.
    Timeout,
    /// The database is unreachable or read-only, all connections are busy, or a concurrent change
    /// interfered. HTTP 503 with `Retry-After`. Nothing was written, unless `extensions.outcome` is
    /// `UNKNOWN`: then the connection broke during the commit, or another service did not confirm
    /// what it did.
    Unavailable,
    /// The server failed. `extensions.requestId` identifies the cause in its log. HTTP 500 if the
    /// operation was not executed.
    Internal,
}

impl ErrorCode {
    /// The code as clients see it, for example `NOT_FOUND`.
    #[must_use]
    pub fn name(self) -> &'static str {
        enum_name(self)
    }
}

/// An error that is reported to a client.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The token is not accepted. The reason describes the token and never reveals which users
    /// exist.
    #[error("Authentication failed: {0}.")]
    Unauthenticated(&'static str),
    /// The path and the token name different organizations.
    #[error(
        "The token and the path name different organizations. Use a token for this organization."
    )]
    OrganizationMismatch,
    /// The organization does not exist or the caller is not a member. Both cases get the same
    /// response.
    #[error("The organization was not found.")]
    OrganizationNotFound,
    /// The object does not exist or belongs to another organization. Both cases get the same
    /// response.
    #[error("The {0} was not found.")]
    NotFound(&'static str),
    /// The caller's role lacks the permission.
    #[error("Your role in this organization lacks the permission {}. Ask an owner for a higher role.", .0.name())]
    Forbidden(Permission),
    /// The operator has suspended the organization.
    #[error("The organization is suspended. Its owners can still read billing and pay.")]
    OrganizationSuspended,
    /// The operator has suspended the user.
    #[error("The user is suspended. Contact support.")]
    UserSuspended,
    /// Neither the path nor the token names an organization.
    #[error(
        "This requires an organization. Send the request to `/org/{{slug}}/graphql`, or use a token that names one."
    )]
    OrganizationRequired,
    /// An argument is invalid.
    #[error("{field}: {message}")]
    BadUserInput {
        /// The path of the argument, for example `input.name`.
        field: &'static str,
        /// The problem, and what a valid value looks like.
        message: String,
    },
    /// The change conflicts with the current state.
    #[error("{0}")]
    Conflict(String),
    /// The invitation is for another address.
    #[error(
        "This invitation is for another e-mail address. Sign in with the account that has it, or ask for a new invitation."
    )]
    WrongAccount,
    /// The caller has no verified address, and the invitation could be for theirs.
    #[error(
        "Your e-mail address is not verified. Verify it with your identity provider, then sign in again."
    )]
    AddressNotVerified,
    /// The plan's limit is reached.
    #[error("{}", over_limit(feature, *limit))]
    PlanLimitExceeded {
        /// The key of the feature, for example `projects`.
        feature: String,
        /// The number that the plan allows. 0 if the plan does not include the feature.
        limit: i64,
    },
    /// The plan's calls for this month are used up.
    #[error(
        "The plan's limit of {} API calls a month is reached. Upgrade the plan or try again in {} s.", .0.limit, .0.reset
    )]
    CallsExhausted(RateLimit),
    /// Too many requests at a time or in a period.
    #[error("Request limit reached: {throttle}. Try again in {retry_after} s.")]
    RateLimited {
        /// The limit that was exceeded.
        throttle: Throttle,
        /// Seconds until a retry makes sense.
        retry_after: u64,
    },
    /// The idempotency key cannot be used for this request.
    #[error("Idempotency-Key: {why}.")]
    IdempotencyConflict {
        /// The reason.
        why: &'static str,
        /// Seconds until the key can be retried, if it can.
        retry_after: Option<u64>,
    },
    /// A concurrent change interfered. Nothing was written, and a retry may succeed.
    #[error("A concurrent change interfered. Try again.")]
    Contention(#[source] Cause),
    /// The database cannot take the request now. Nothing was written.
    #[error("The service is temporarily unavailable. Try again in a few seconds.")]
    Unavailable(#[source] Cause),
    /// The database accepts no changes now, because it is read-only or its disk is full. Nothing
    /// was written, and queries still work.
    #[error("Changes cannot be saved at the moment. Try again in a few seconds.")]
    ReadOnly(#[source] Cause),
    /// The connection broke while COMMIT was in flight.
    #[error(
        "The connection to the database broke during the commit. Check whether the change was saved before you repeat it."
    )]
    CommitOutcomeUnknown(#[source] Cause),
    /// Another service was called and did not confirm what it did.
    #[error(
        "Another service did not confirm the change. Check whether it was made before you repeat it."
    )]
    OutcomeUnknown(#[source] Cause),
    /// The request took too long and was rolled back.
    #[error("The request took too long and was rolled back. Try again.")]
    Timeout,
    /// The operation exceeded a cost limit and was rolled back.
    #[error("{0}")]
    TooComplex(Exceeded),
    /// The server failed.
    #[error("Internal server error.")]
    Internal(#[source] Cause),
}

impl Error {
    /// An internal error whose cause is not an error of a library.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(cause.into()))
    }

    /// A temporary error whose cause is not an error of a library.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(cause.into()))
    }

    /// An invalid argument.
    pub fn bad_input(field: &'static str, message: impl Into<String>) -> Self {
        Self::BadUserInput { field, message: message.into() }
    }

    /// Converts an error for use after a part of the work was committed. Errors that promise
    /// "nothing was written" become an unknown outcome.
    #[must_use]
    pub fn after_the_fact(self) -> Self {
        match self {
            Self::Unavailable(cause) | Self::Contention(cause) | Self::ReadOnly(cause) => {
                Self::OutcomeUnknown(cause)
            }
            Self::Timeout => Self::OutcomeUnknown(Arc::new(Self::Timeout)),
            Self::TooComplex(exceeded) => Self::OutcomeUnknown(Arc::new(exceeded)),
            other => other,
        }
    }

    /// Converts an error for use after another service was called. A missing response becomes an
    /// unknown outcome.
    #[must_use]
    pub fn of_unknown_outcome(error: impl Into<Self>) -> Self {
        match error.into() {
            Self::Unavailable(cause) => Self::OutcomeUnknown(cause),
            other => other,
        }
    }

    /// The chain of causes as text, for operators. Clients see only `Display`.
    #[must_use]
    pub fn cause(&self) -> String {
        let mut source = std::error::Error::source(self);
        let mut causes: Vec<String> = Vec::new();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many libraries repeat their cause in their own text.
            if !causes.last().is_some_and(|last| last.contains(&text)) {
                causes.push(text);
            }
            source = cause.source();
        }
        if causes.is_empty() { self.to_string() } else { causes.join(": ") }
    }

    /// The code that clients act on.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthenticated(_) => ErrorCode::Unauthenticated,
            Self::OrganizationMismatch => ErrorCode::OrganizationMismatch,
            Self::OrganizationNotFound | Self::NotFound(_) => ErrorCode::NotFound,
            Self::Forbidden(_) => ErrorCode::Forbidden,
            Self::OrganizationSuspended => ErrorCode::OrganizationSuspended,
            Self::UserSuspended => ErrorCode::UserSuspended,
            Self::OrganizationRequired => ErrorCode::OrganizationRequired,
            Self::BadUserInput { .. } => ErrorCode::BadUserInput,
            Self::Conflict(_) => ErrorCode::Conflict,
            Self::WrongAccount => ErrorCode::WrongAccount,
            Self::AddressNotVerified => ErrorCode::AddressNotVerified,
            Self::PlanLimitExceeded { .. } | Self::CallsExhausted(_) => {
                ErrorCode::PlanLimitExceeded
            }
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::IdempotencyConflict { .. } => ErrorCode::IdempotencyConflict,
            Self::Unavailable(_)
            | Self::Contention(_)
            | Self::ReadOnly(_)
            | Self::CommitOutcomeUnknown(_)
            | Self::OutcomeUnknown(_) => ErrorCode::Unavailable,
            Self::Timeout => ErrorCode::Timeout,
            Self::TooComplex(_) => ErrorCode::QueryTooComplex,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }
}

impl Error {
    /// The error of an insert that refers to the organization, which may have been deleted
    /// meanwhile.
    pub(crate) fn of_insert(error: DbErr) -> Self {
        let error = pg::Error::from(error);
        if error.has_code(&["23503"]) { Self::OrganizationNotFound } else { error.into() }
    }
}

fn over_limit(feature: &str, limit: i64) -> String {
    if limit == 0 {
        return format!("The plan does not include {feature}. Upgrade the plan.");
    }
    format!("This would exceed the plan's limit of {limit} for {feature}. Upgrade the plan.")
}

impl From<stripe::Error> for Error {
    fn from(error: stripe::Error) -> Self {
        match error {
            stripe::Error::Unavailable(cause) => Self::unavailable(cause),
            stripe::Error::Invalid(cause)
            | stripe::Error::Refused(cause)
            | stripe::Error::Unreadable(cause) => Self::internal(cause),
        }
    }
}

impl From<pg::Error> for Error {
    fn from(error: pg::Error) -> Self {
        match error.kind() {
            ErrorKind::Connection => Self::Unavailable(Arc::new(error)),
            ErrorKind::Conflict => Self::Contention(Arc::new(error)),
            ErrorKind::ReadOnly => Self::ReadOnly(Arc::new(error)),
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Exceeded(exceeded) => Self::TooComplex(exceeded),
            ErrorKind::CommitOutcomeUnknown => Self::CommitOutcomeUnknown(Arc::new(error)),
            ErrorKind::Statement | ErrorKind::Configuration => Self::Internal(Arc::new(error)),
        }
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        pg::Error::from(error).into()
    }
}
