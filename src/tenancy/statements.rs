//! What a transaction has asked PostgreSQL: counted, timed, and told of where it was slow.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A statement that takes as long as this is logged.
const SLOW: Duration = Duration::from_secs(1);

/// The statements of a transaction.
pub(super) struct Statements {
    count: AtomicU32,
    /// Microseconds that their answers took together.
    time: AtomicU64,
    /// Those that somebody waits for.
    waiting: AtomicU32,
    /// Somebody has given up waiting for one, which may still be running.
    abandoned: AtomicBool,
}

impl Statements {
    /// One so far.
    pub(super) fn after(opening: Duration) -> Self {
        Self {
            count: AtomicU32::new(1),
            time: AtomicU64::new(microseconds(opening)),
            waiting: AtomicU32::new(0),
            abandoned: AtomicBool::new(false),
        }
    }

    pub(super) fn add(&self, count: u32, time: Duration) {
        self.count.fetch_add(count, Ordering::Relaxed);
        self.time.fetch_add(microseconds(time), Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_micros(self.time.load(Ordering::Relaxed))
    }

    pub(super) fn are_answered(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    pub(super) fn any_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    pub(super) fn begin<'one>(&'one self, sql: &'one str) -> Running<'one> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Running { statements: self, sql, begun: Instant::now(), answered: false }
    }
}

/// A statement, for as long as somebody waits for it.
pub(super) struct Running<'one> {
    statements: &'one Statements,
    sql: &'one str,
    begun: Instant,
    pub(super) answered: bool,
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
        if elapsed < SLOW {
            tracing::debug!(sql, ?elapsed, answered, "statement");
        } else {
            tracing::warn!(sql, ?elapsed, answered, "slow statement");
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
