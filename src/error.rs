//! What can go wrong, one variant for each thing that a client can do about it.
//!
//! `Display` is the text that clients read, `source()` the cause that only the log sees, `code()`
//! the contract.

use std::sync::Arc;

use async_graphql::Enum;
use sea_orm::DbErr;

use crate::{
    auth::Permission,
    graphql::enum_name,
    rate_limit::{RateLimit, Throttle},
};

/// The result of everything that may fail for a reason that a client is told.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The hidden cause of an error; shared, because one failed batch answers many fields.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What `extensions.code` of an error may be. Codes are never renamed; new ones may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum ErrorCode {
    /// No token, or one that is malformed, expired or not signed as required. HTTP 401.
    Unauthenticated,
    /// The path and the token name different organizations. HTTP 403.
    OrganizationMismatch,
    /// The organization, or the object that a mutation names, does not exist or is not the caller's
    /// to see. HTTP 404 for the organization, inside a 200 for an object.
    NotFound,
    /// The caller's role does not include what the field asks for.
    Forbidden,
    /// The operator has suspended the organization: nothing but billing is open, to owners. With
    /// `Organization.suspension` `READ_ONLY` everything may be read. HTTP 403 when the whole
    /// request is refused.
    OrganizationSuspended,
    /// The operator has suspended the user. HTTP 403.
    UserSuspended,
    /// The field needs an organization, and neither the path nor the token names one.
    OrganizationRequired,
    /// An argument is not acceptable; `extensions.field` names it.
    BadUserInput,
    /// The change collides with what is there, for example a slug that is taken.
    Conflict,
    /// The plan does not allow more; `extensions.feature` and `extensions.limit` say of what. HTTP
    /// 429 with `Retry-After` when the feature is API calls.
    PlanLimitExceeded,
    /// Too many requests: HTTP 429 with `Retry-After`. Too many invitation e-mails: inside a 200.
    /// `extensions.retryAfter` has the seconds.
    RateLimited,
    /// An idempotency key was used before: with another request, or with this one, whose answer
    /// cannot be given again because it was too long or the caller's role is lower now; with
    /// `extensions.retryAfter`: the request with this key still runs. HTTP 409.
    IdempotencyConflict,
    /// The document is not GraphQL. HTTP 400, or 200 for `application/json`.
    GraphqlParseFailed,
    /// The document does not fit the schema, or breaks one of its rules. HTTP 400, or 200 for
    /// `application/json`.
    GraphqlValidationFailed,
    /// The document passes a limit of size, depth or complexity, or executing it takes too many SQL
    /// statements or too large an answer. Nothing was written. HTTP 400, or 200 for
    /// `application/json`.
    QueryTooComplex,
    /// The persisted query is not known: send it again with its text. HTTP 400, or 200 for
    /// `application/json`.
    PersistedQueryNotFound,
    /// Not a GraphQL request over HTTP as the server takes it. HTTP 400, 405, 406, 408, 413 or 415.
    UnsupportedRequest,
    /// The request took too long and was rolled back. HTTP 504 with `Retry-After`.
    Timeout,
    /// The database cannot be reached or takes no changes, all connections are busy, or another
    /// change was in the way. HTTP 503 with `Retry-After`. Nothing was written, unless
    /// `extensions.outcome` is `UNKNOWN`: then the connection broke while the change was being
    /// committed, or another service did not say whether it did what it was asked for.
    Unavailable,
    /// A fault of the server; `extensions.requestId` finds its cause in the log. HTTP 500 before
    /// execution.
    Internal,
}

impl ErrorCode {
    /// The code as clients see it, for example `NOT_FOUND`.
    #[must_use]
    pub fn name(self) -> &'static str {
        enum_name(self)
    }
}

/// A failure that a client is told about.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The reason is about the token's form, never about who exists.
    #[error("authentication failed: {0}")]
    Unauthenticated(&'static str),
    /// Path and token disagree.
    #[error("the token is for another organization than the path")]
    OrganizationMismatch,
    /// The same answer for an unknown organization and for one that the caller is not in.
    #[error("organization not found")]
    OrganizationNotFound,
    /// The same answer for an unknown object and for one of another organization.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The role of the caller does not include the permission.
    #[error("your role in this organization does not allow this: it needs {}", .0.name())]
    Forbidden(Permission),
    /// The operator has suspended the organization.
    #[error("the organization is suspended: its owners can read billing and pay, nothing else")]
    OrganizationSuspended,
    /// The operator has suspended the user.
    #[error("the user is suspended: ask the operator of this service")]
    UserSuspended,
    /// Nothing names an organization.
    #[error(
        "this needs an organization: send the request to /org/{{slug}}/graphql, or use a token with one"
    )]
    OrganizationRequired,
    /// An argument that the caller can mend.
    #[error("{field}: {message}")]
    BadUserInput {
        /// The path of the argument, for example `input.name`.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        message: String,
    },
    /// A collision with what is there.
    #[error("{0}")]
    Conflict(String),
    /// The plan's limit is reached.
    #[error("the plan allows {limit} of {feature}: upgrade the plan, or make room")]
    PlanLimitExceeded {
        /// The feature's name, for example `PROJECTS`.
        feature: &'static str,
        /// How many the plan allows; 0 when the plan does not include the feature.
        limit: i64,
    },
    /// The plan's calls of the month are used up.
    #[error(
        "the plan allows {} calls a month, and they are used up: upgrade the plan, or wait {} s", .0.limit, .0.reset
    )]
    CallsExhausted(RateLimit),
    /// Too much at the same time, or too often.
    #[error("{throttle}: try again in {retry_after} s")]
    RateLimited {
        /// What there was too much of.
        throttle: Throttle,
        /// Seconds after which trying again makes sense.
        retry_after: u64,
    },
    /// An idempotency key does not stand for this request.
    #[error("Idempotency-Key: {why}")]
    IdempotencyConflict {
        /// What it stands for in its place.
        why: &'static str,
        /// It may, after so many seconds.
        retry_after: Option<u64>,
    },
    /// Another change was in the way; nothing was written, and again it may succeed.
    #[error("another change was in the way: try again")]
    Contention(#[source] Cause),
    /// The database cannot take the request now; nothing was written.
    #[error("the service is not available at the moment: try again soon")]
    Unavailable(#[source] Cause),
    /// The database takes no changes now: it is read-only, or its disk is full. Nothing was
    /// written, and reading goes on.
    #[error("changes cannot be saved at the moment: try again soon")]
    ReadOnly(#[source] Cause),
    /// The connection broke while COMMIT was in flight.
    #[error(
        "the connection to the database broke while the change was being saved: look before you repeat it"
    )]
    CommitOutcomeUnknown(#[source] Cause),
    /// Another service was asked to do something, and did not say whether it did.
    #[error("whether it was done is not known: look before you repeat it")]
    OutcomeUnknown(#[source] Cause),
    /// Took too long; rolled back.
    #[error("the request took too long and was rolled back")]
    Timeout,
    /// Cost more than one operation may; rolled back.
    #[error("{0}")]
    TooComplex(Exceeded),
    /// A fault of ours.
    #[error("internal error")]
    Internal(#[source] Cause),
}

impl Error {
    /// A fault of ours, with a cause that is no error of a library.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(cause.into()))
    }

    /// Something that passes, with a cause that is no error of a library.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(cause.into()))
    }

    /// A refused argument.
    pub fn bad_input(field: &'static str, message: impl Into<String>) -> Self {
        Self::BadUserInput { field, message: message.into() }
    }

    /// What is no matter when nothing was done, and something else when something was.
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

    /// What another service's silence means once something was asked of it.
    #[must_use]
    pub fn of_unknown_outcome(self) -> Self {
        match self {
            Self::Unavailable(cause) => Self::OutcomeUnknown(cause),
            other => other,
        }
    }

    /// What is behind it, down to the first cause, for operators; clients are told less.
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

    /// What clients decide by.
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

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let source = match &error {
            DbErr::Conn(sea_orm::RuntimeErr::SqlxError(source))
            | DbErr::Exec(sea_orm::RuntimeErr::SqlxError(source))
            | DbErr::Query(sea_orm::RuntimeErr::SqlxError(source)) => Some(source.as_ref()),
            _ => None,
        };
        match source.map(DbErrorKind::of) {
            Some(DbErrorKind::Connection) => Self::Unavailable(Arc::new(error)),
            Some(DbErrorKind::Conflict) => Self::Contention(Arc::new(error)),
            Some(DbErrorKind::ReadOnly) => Self::ReadOnly(Arc::new(error)),
            Some(DbErrorKind::Timeout) => Self::Timeout,
            Some(DbErrorKind::Exceeded(exceeded)) => Self::TooComplex(exceeded),
            Some(DbErrorKind::Statement) | None => Self::Internal(Arc::new(error)),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match DbErrorKind::of(&error) {
            DbErrorKind::Connection => Self::Unavailable(Arc::new(error)),
            DbErrorKind::Conflict => Self::Contention(Arc::new(error)),
            DbErrorKind::ReadOnly => Self::ReadOnly(Arc::new(error)),
            DbErrorKind::Timeout => Self::Timeout,
            DbErrorKind::Exceeded(exceeded) => Self::TooComplex(exceeded),
            DbErrorKind::Statement => Self::Internal(Arc::new(error)),
        }
    }
}

/// The limit that an operation has passed while it was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// So many SQL statements, all operations of a request together.
    #[error(
        "the request needs more than {0} SQL statements: select less, or send its parts one after the other"
    )]
    Statements(u32),
    /// So many bytes of rows and long texts, all operations of a request together.
    #[error("the answer is larger than {0} bytes: ask for smaller pages, or for fewer long texts")]
    Bytes(u64),
}

impl From<Exceeded> for sqlx::Error {
    fn from(exceeded: Exceeded) -> Self {
        Self::AnyDriverError(Box::new(exceeded))
    }
}

/// What an error of the driver says about the connection it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbErrorKind {
    /// The connection, or the server behind it, is gone or refuses.
    Connection,
    /// PostgreSQL cancelled the statement by one of its timeouts.
    Timeout,
    /// PostgreSQL sacrificed the transaction to another one; nothing of it was kept, and again it
    /// may succeed.
    Conflict,
    /// PostgreSQL takes no changes now; it may be a standby that was the primary before.
    ReadOnly,
    /// The operation has cost too much; the statement was not sent, or its rows were not all read.
    Exceeded(Exceeded),
    /// The statement failed; the connection is fine.
    Statement,
}

impl DbErrorKind {
    /// Sorts by SQLSTATE (PostgreSQL manual, appendix A): classes 08, 53 and 57P are about the
    /// connection or the server, 57014 and 55P03 are timeouts, 40001 and 40P01 are about two
    /// transactions in each other's way, 25006 and 53100 refuse whatever changes something.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Self::Connection,
            sqlx::Error::AnyDriverError(error) => match error.downcast_ref() {
                Some(exceeded) => Self::Exceeded(*exceeded),
                None => Self::Statement,
            },
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("57014" | "55P03") => Self::Timeout,
                Some("40001" | "40P01") => Self::Conflict,
                Some("25006" | "53100") => Self::ReadOnly,
                Some(code) if ["08", "53", "57P"].iter().any(|class| code.starts_with(class)) => {
                    Self::Connection
                }
                Some("25P03") => Self::Connection,
                _ => Self::Statement,
            },
            _ => Self::Statement,
        }
    }
}
