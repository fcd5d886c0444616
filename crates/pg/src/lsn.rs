//! How fresh a replica's reads are, measured in log sequence numbers (LSN).
//!
//! Both freshness promises need one comparison and only this server's clock. A replica that has
//! replayed the primary's LSN of time T has everything that was committed before T.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    Error, Parameters, Result, Row,
    connection::{Connection, unbounded},
};

/// The primary's LSN. Commits are flushed, unless `synchronous_commit` is off.
pub const CURRENT_LSN: &str =
    "SELECT (CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn()
        ELSE pg_current_wal_flush_lsn() END - '0/0')::bigint AS position";

/// The maximum staleness of any response. A removed member loses access to stale data after it.
const MOST_STALE: Duration = Duration::from_mins(1);

/// An LSN; clients send it back unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(i64);

impl Lsn {
    /// Parses the output of `Display`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_written = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lsn = is_written.then(|| i64::from_str_radix(text, 16)).and_then(Result::ok);
        lsn.map(Self)
    }

    /// Reads the result of [`CURRENT_LSN`].
    ///
    /// # Errors
    ///
    /// When there is no row.
    pub fn of(rows: &[Row]) -> Result<Self> {
        let row = rows.first().ok_or_else(|| Error::statement("the LSN query returned no row"))?;
        Ok(Self(row.try_get("position")?))
    }

    /// The number of bytes before it.
    #[must_use]
    pub fn bytes(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// The LSN after a transaction's last commit, if it was requested.
#[derive(Debug, Default)]
pub(crate) struct CommitLsn {
    is_wanted: AtomicBool,
    lsn: Mutex<Option<Lsn>>,
}

impl CommitLsn {
    pub(crate) fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<Lsn> {
        *self.lsn.lock()
    }

    /// Queries the primary's LSN, after the statements sent before.
    pub(crate) async fn set(&self, primary: &Connection) -> Result<()> {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Boxed: large, and every commit would carry it.
        let answer =
            Box::pin(primary.query(None, CURRENT_LSN, &Parameters::of(None)?, unbounded)).await;
        let lsn = answer.and_then(|answer| Lsn::of(&answer.rows));
        let known = lsn.as_ref().ok().copied();
        *self.lsn.lock() = known;
        lsn.map(drop)
    }
}

/// The freshness that a client requires if it accepts stale data.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// The response contains everything committed longer ago than this.
    pub max_staleness: Duration,
    /// The response contains everything up to this LSN, usually the client's last change.
    pub after: Option<Lsn>,
}

/// The primary's LSNs of the last minute, with the times of their queries.
#[derive(Debug, Default)]
pub struct LsnHistory(Mutex<VecDeque<(Instant, Lsn)>>);

impl LsnHistory {
    /// Records the primary's LSN. Everything committed before `at` is at or below `position`.
    pub fn note(&self, at: Instant, lsn: Lsn) {
        let mut known = self.0.lock();
        known.push_back((at, lsn));
        while known.front().is_some_and(|(at, _)| at.elapsed() > MOST_STALE) {
            known.pop_front();
        }
    }

    /// The lowest LSN that satisfies a required freshness; `None` if the primary's LSN was not read
    /// recently enough.
    pub fn least(&self, freshness: Freshness) -> Option<Lsn> {
        let Freshness { max_staleness, after } = freshness;
        let known = self.0.lock();
        let within = |(at, _): &&(Instant, Lsn)| at.elapsed() <= max_staleness.min(MOST_STALE);
        let (_, lsn) = known.iter().find(within)?;
        Some(after.map_or(*lsn, |after| after.max(*lsn)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(lsn_history: &LsnHistory, seconds: u64, after: Option<i64>) -> Option<Lsn> {
        let max_staleness = Duration::from_secs(seconds);
        lsn_history.least(Freshness { max_staleness, after: after.map(Lsn) })
    }

    #[test]
    fn the_more_staleness_is_allowed_the_less_is_asked_for() {
        let lsn_history = LsnHistory::default();
        assert_eq!(least(&lsn_history, 60, None), None);
        let now = Instant::now();
        for (age, lsn) in [(90, 1), (50, 2), (20, 3), (5, 4)] {
            lsn_history.note(now.checked_sub(Duration::from_secs(age)).unwrap(), Lsn(lsn));
        }
        assert_eq!(least(&lsn_history, 10, None), Some(Lsn(4)));
        assert_eq!(least(&lsn_history, 30, None), Some(Lsn(3)));
        assert_eq!(least(&lsn_history, 55, None), Some(Lsn(2)));
        assert_eq!(least(&lsn_history, 3_600, None), Some(Lsn(2)), "nothing is older than that");
        assert_eq!(least(&lsn_history, 4, None), None, "the primary's LSN was not read since");
        assert_eq!(least(&lsn_history, 0, None), None);
        assert_eq!(least(&lsn_history, 30, Some(1)), Some(Lsn(3)));
        assert_eq!(least(&lsn_history, 30, Some(9)), Some(Lsn(9)));
    }

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let lsn = Lsn(0x1_6b37_48a0);
        assert_eq!(lsn.to_string(), "000000016b3748a0");
        assert_eq!(Lsn::parse(&lsn.to_string()), Some(lsn));
        for bad in ["", "0/3000148", "+000000000000001", "ffffffffffffffff", "00000000016b3748a0"] {
            assert_eq!(Lsn::parse(bad), None, "{bad}");
        }
    }
}
