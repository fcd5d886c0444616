//! The statements of a transaction: counts them, checks the budget, measures times, and logs slow
//! ones.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{Budget, Cost, Exceeded};

/// The time from which a statement is slow.
const SLOW: Duration = Duration::from_secs(1);

/// The statistics of a transaction.
pub(crate) struct QueryStats {
    count: AtomicU32,
    /// Bytes of rows, and of long texts in the response.
    bytes: AtomicU64,
    /// The sum of the answers' times, in microseconds.
    time: AtomicU64,
    /// The number of statements whose answers are awaited.
    waiting: AtomicU32,
    /// Whether a wait was cancelled. That statement may still be running.
    abandoned: AtomicBool,
    /// Background work has no budget and is never refused.
    budget: OnceLock<Budget>,
    slow: Mutex<Slow>,
}

/// The slow statements of a transaction. They are logged together, because one slow statement
/// delays those behind it.
#[derive(Default)]
struct Slow {
    count: u32,
    slowest: Duration,
    sql: String,
}

impl QueryStats {
    /// Starts with one statement, the opening.
    pub(crate) fn after(opening: Duration) -> Self {
        Self {
            count: AtomicU32::new(1),
            bytes: AtomicU64::new(0),
            time: AtomicU64::new(microseconds(opening)),
            waiting: AtomicU32::new(0),
            abandoned: AtomicBool::new(false),
            budget: OnceLock::new(),
            slow: Mutex::default(),
        }
    }

    /// Sets the budget; a statement or row that exceeds it fails.
    pub(crate) fn limit(&self, budget: Budget) {
        // Set once, because a transaction belongs to one operation.
        let _ = self.budget.set(budget);
    }

    pub(crate) fn add(&self, count: u32, time: Duration) {
        self.count.fetch_add(count, Ordering::Relaxed);
        self.time.fetch_add(microseconds(time), Ordering::Relaxed);
    }

    /// Counts bytes of a row, or of a text in the response.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), Exceeded> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let spent = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.budget.get().map_or(Ok(()), |budget| budget.check_bytes(spent))
    }

    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn cost(&self) -> Cost {
        Cost { statements: self.count(), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// The rest of its budget, if it has one.
    pub(crate) fn left(&self) -> Option<Budget> {
        self.budget.get().map(|budget| budget.after(Some(self.cost()), 0))
    }

    /// Counts what another transaction has cost.
    pub(crate) fn charge(&self, cost: Cost) -> Result<(), Exceeded> {
        let count = self.count.fetch_add(cost.statements, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(cost.bytes, Ordering::Relaxed);
        self.budget.get().map_or(Ok(()), |budget| {
            budget.check_statements(count.saturating_add(cost.statements))?;
            budget.check_bytes(bytes.saturating_add(cost.bytes))
        })
    }

    pub(crate) fn time(&self) -> Duration {
        Duration::from_micros(self.time.load(Ordering::Relaxed))
    }

    pub(crate) fn are_answered(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn any_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Counts a statement before it is sent.
    pub(crate) fn begin<'one>(&'one self, sql: &'one str) -> Result<Running<'one>, Exceeded> {
        if let Some(budget) = self.budget.get() {
            budget.check_statements(self.count().saturating_add(1))?;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Ok(Running { statements: self, sql, begun: Instant::now(), answered: false })
    }
}

impl Drop for QueryStats {
    fn drop(&mut self) {
        let Slow { count, slowest, sql } = self.slow.get_mut();
        if *count > 0 {
            tracing::warn!(count, ?slowest, sql, "slow statements");
        }
    }
}

/// A statement whose answer is awaited.
pub(crate) struct Running<'one> {
    statements: &'one QueryStats,
    sql: &'one str,
    begun: Instant,
    pub(crate) answered: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Self { statements, sql, begun, answered } = self;
        statements.waiting.fetch_sub(1, Ordering::Relaxed);
        if !*answered {
            statements.abandoned.store(true, Ordering::Relaxed);
        }
        let elapsed = begun.elapsed();
        statements.time.fetch_add(microseconds(elapsed), Ordering::Relaxed);
        tracing::debug!(sql, ?elapsed, answered, "statement");
        if elapsed >= SLOW {
            let mut slow = statements.slow.lock();
            slow.count += 1;
            if elapsed > slow.slowest {
                slow.slowest = elapsed;
                (*sql).clone_into(&mut slow.sql);
            }
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
