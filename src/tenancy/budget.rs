//! What the operations of one request may still cost: SQL statements, and bytes of rows and long
//! texts.
//!
//! A transaction counts against its budget before it sends a statement and as each row arrives, so
//! that an operation ends when it has cost too much, not after it has been answered.

use crate::error::Exceeded;

/// SQL statements, and bytes of rows and of long texts in the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Messages sent to PostgreSQL, the opening one included.
    pub statements: u32,
    /// Bytes of rows as they arrive, and of long texts each time a field returns them.
    pub bytes: u64,
}

/// What a request may cost, and what it has cost so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    most: Cost,
    spent: Cost,
}

impl Budget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(most: Cost) -> Self {
        Self { most, spent: Cost::default() }
    }

    /// What is left for the next operation of a batch: nothing, where one has passed the budget.
    /// Its answer counts as a whole, also the short values, which are not counted while they are
    /// made.
    #[must_use]
    pub fn after(self, cost: Option<Cost>, answer_bytes: usize) -> Self {
        let Some(cost) = cost else {
            return Self { spent: self.most, ..self };
        };
        let bytes = cost.bytes.max(u64::try_from(answer_bytes).unwrap_or(u64::MAX));
        let spent = Cost {
            statements: self.spent.statements.saturating_add(cost.statements),
            bytes: self.spent.bytes.saturating_add(bytes),
        };
        Self { spent, ..self }
    }

    pub(super) fn check_statements(&self, count: u32) -> Result<(), Exceeded> {
        if self.spent.statements.saturating_add(count) > self.most.statements {
            return Err(Exceeded::Statements(self.most.statements));
        }
        Ok(())
    }

    pub(super) fn check_bytes(&self, bytes: u64) -> Result<(), Exceeded> {
        if self.spent.bytes.saturating_add(bytes) > self.most.bytes {
            return Err(Exceeded::Bytes(self.most.bytes));
        }
        Ok(())
    }
}
