//! The budget of a request: SQL statements, and bytes of rows and long texts.
//!
//! A transaction checks the budget before it sends a statement and as each row arrives. An
//! operation that is too expensive therefore stops early, not after its last row.

use crate::Exceeded;

/// The cost of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Messages sent to PostgreSQL, including the opening one.
    pub statements: u32,
    /// Bytes of rows as they arrive, plus long texts each time a field returns them.
    pub bytes: u64,
}

impl Cost {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            statements: self.statements.saturating_add(other.statements),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// The limit and the cost so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    most: Cost,
    spent: Cost,
}

impl Budget {
    /// A budget with this limit and no cost so far.
    #[must_use]
    pub fn new(most: Cost) -> Self {
        Self { most, spent: Cost::default() }
    }

    /// The budget for the next operation of a batch. It is used up if the operation before exceeded
    /// it (`cost` is `None`). A response counts in full, including short values that are not
    /// counted while it is built.
    #[must_use]
    pub fn after(self, cost: Option<Cost>, answer_bytes: usize) -> Self {
        let Some(cost) = cost else {
            return Self { spent: self.most, ..self };
        };
        let bytes = cost.bytes.max(u64::try_from(answer_bytes).unwrap_or(u64::MAX));
        Self { spent: self.spent.plus(Cost { bytes, ..cost }), ..self }
    }

    pub(crate) fn check_statements(&self, count: u32) -> Result<(), Exceeded> {
        if self.spent.statements.saturating_add(count) > self.most.statements {
            return Err(Exceeded::Statements(self.most.statements));
        }
        Ok(())
    }

    pub(crate) fn check_bytes(&self, bytes: u64) -> Result<(), Exceeded> {
        if self.spent.bytes.saturating_add(bytes) > self.most.bytes {
            return Err(Exceeded::Bytes(self.most.bytes));
        }
        Ok(())
    }
}
