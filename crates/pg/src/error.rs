//! The error of a connection or a statement, and what it means for both.

use std::{error::Error as _, fmt, fmt::Write as _, io, sync::Arc};

/// The result of database access.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a connection or a statement failed; cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    code: Option<String>,
    /// DETAIL and HINT. They may contain values of rows, so `Display` and `Debug` omit them.
    detail: Option<String>,
    hint: Option<String>,
}

/// The meaning of an error for its connection and transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The connection or its server is gone or refuses to work. Nothing was committed.
    Connection,
    /// PostgreSQL cancelled the statement by one of its timeouts.
    Timeout,
    /// PostgreSQL aborted the transaction in favour of another. Nothing was written, and a retry
    /// may succeed.
    Conflict,
    /// PostgreSQL accepts no changes now. It may be a former primary that is now a standby.
    ReadOnly,
    /// The transaction exceeded its budget. The statement was not sent, or its rows were not all
    /// read.
    Exceeded(Exceeded),
    /// The connection broke while COMMIT was in flight.
    CommitOutcomeUnknown,
    /// The statement failed. The connection is usable.
    Statement,
    /// The address or a certificate is not valid.
    Configuration,
}

/// A cost limit that an operation exceeded while it was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// The maximum number of SQL statements, over all operations of a request.
    #[error(
        "The request needs more than {0} SQL statements. Select fewer fields or split the request."
    )]
    Statements(u32),
    /// The maximum number of bytes in rows and long texts, over all operations of a request.
    #[error("The response is larger than {0} bytes. Request smaller pages or fewer long texts.")]
    Bytes(u64),
}

impl Error {
    fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self(Arc::new(Inner { kind, message, code: None, detail: None, hint: None }))
    }

    pub(crate) fn connection(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Connection, message)
    }

    /// An error of a statement that was not sent.
    pub fn statement(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Statement, message)
    }

    pub(crate) fn commit_outcome_unknown(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::CommitOutcomeUnknown, message)
    }

    pub(crate) fn configuration(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    pub(crate) fn closed() -> Self {
        Self::connection("the connection is closed")
    }

    /// The meaning for the connection and the transaction.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The SQLSTATE, if PostgreSQL returned the error.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// DETAIL, which may contain values of rows.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// HINT.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The message with DETAIL and HINT, for the terminal of an operator. Logs and clients do not
    /// get it, because it may contain values of rows.
    #[must_use]
    pub fn explained(&self) -> String {
        let parts = [self.detail(), self.hint()].into_iter().flatten();
        parts.fold(self.to_string(), |text, part| format!("{}. {part}", text.trim_end_matches('.')))
    }

    /// Whether the SQLSTATE is one of these.
    #[must_use]
    pub fn has_code(&self, codes: &[&str]) -> bool {
        self.code().is_some_and(|code| codes.contains(&code))
    }

    /// Whether the connection died in the pool, or prepared its statements before a migration.
    /// Nothing was executed then.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.kind() == ErrorKind::Connection || self.is_outdated()
    }

    /// Whether a prepared statement's result type has changed, or PostgreSQL no longer has it.
    pub(crate) fn is_outdated(&self) -> bool {
        self.has_code(&["0A000", "26000"])
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {:?}: {}", self.0.kind, self.0.code, self.0.message)
    }
}

/// Has no source, because details of the driver's error may contain values of rows.
impl std::error::Error for Error {}

impl From<Exceeded> for Error {
    fn from(exceeded: Exceeded) -> Self {
        Self::new(ErrorKind::Exceeded(exceeded), exceeded)
    }
}

/// An error of a statement.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(returned) = error.as_db_error() {
            let code = returned.code().code();
            return Self(Arc::new(Inner {
                kind: kind_of(code),
                message: returned.message().to_owned(),
                code: Some(code.to_owned()),
                detail: returned.detail().map(ToOwned::to_owned),
                hint: returned.hint().map(ToOwned::to_owned),
            }));
        }
        // An I/O error appears as the source. Both cases mean that the connection is lost.
        let is_io = error.source().is_some_and(<dyn std::error::Error>::is::<io::Error>);
        if error.is_closed() || is_io {
            Self::connection(whole(&error))
        } else {
            Self::statement(whole(&error))
        }
    }
}

/// Classifies SQLSTATEs (PostgreSQL manual, appendix A). Classes 08, 53 and 57P concern the
/// connection or the server. 57014 and 55P03 are timeouts, 40001 and 40P01 conflicts between
/// transactions. 25006 and 53100 refuse changes.
fn kind_of(code: &str) -> ErrorKind {
    match code {
        "57014" | "55P03" => ErrorKind::Timeout,
        "40001" | "40P01" => ErrorKind::Conflict,
        "25006" | "53100" => ErrorKind::ReadOnly,
        "25P03" => ErrorKind::Connection,
        code if ["08", "53", "57P"].iter().any(|class| code.starts_with(class)) => {
            ErrorKind::Connection
        }
        _ => ErrorKind::Statement,
    }
}

/// The error with its sources, which hold the reasons.
pub(crate) fn whole(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let _ = write!(text, ": {reason}");
        source = reason.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_has_detail_and_hint_and_the_error_has_neither() {
        for (message, detail, hint, explained) in [
            ("no rights", None, None, "no rights"),
            ("no rights", Some("Key (a)=(1)."), None, "no rights. Key (a)=(1)."),
            ("no rights.", None, Some("Ask."), "no rights. Ask."),
            ("no rights", Some("Key (a)=(1)."), Some("Ask."), "no rights. Key (a)=(1). Ask."),
        ] {
            let [detail, hint] = [detail, hint].map(|text: Option<&str>| text.map(str::to_owned));
            let (kind, message) = (ErrorKind::Statement, message.to_owned());
            let error = Error(Arc::new(Inner { kind, message, code: None, detail, hint }));
            assert_eq!(error.explained(), explained);
            let logged = format!("{error} {error:?}");
            assert!(!logged.contains("Key") && !logged.contains("Ask"), "{logged}");
        }
    }
}
