//! How a transaction begins: whether it may write, and where it finds tables.

use std::sync::Arc;

/// Whether a transaction may write, and what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One snapshot for the whole request; no writes.
    Read,
    /// Each statement sees what was committed before it, so a count behind a lock is exact.
    Write,
}

impl Access {
    /// The statement, preceded by a deferred rollback if `behind` is set.
    pub(crate) fn begin(self, behind: bool) -> &'static str {
        match (self, behind) {
            (Self::Read, false) => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            (Self::Read, true) => "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            // Without READ WRITE, so that an operator's `default_transaction_read_only` applies.
            (Self::Write, false) => "BEGIN ISOLATION LEVEL READ COMMITTED",
            (Self::Write, true) => "ROLLBACK; BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }
}

/// The schemas in which a transaction finds tables without a schema, in place of the role's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath(Arc<str>);

impl SearchPath {
    /// Schemas as in `SET search_path`. The text becomes SQL, so it must not come from a client.
    #[must_use]
    pub fn new(schemas: &str) -> Self {
        Self(schemas.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn statement(&self) -> String {
        format!("SET LOCAL search_path TO {}", self.0)
    }
}
