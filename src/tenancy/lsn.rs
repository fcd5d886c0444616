//! How fresh an answer must be: positions in PostgreSQL's write-ahead log, and which of them the
//! primary had reached when.
//!
//! Both promises to a client come down to one comparison, without anybody's clock but our own:
//! whoever has replayed the log up to where the primary was at a time has everything that was
//! committed before that time.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_postgres::Row;

use super::{
    connection::{Connection, unbounded},
    driver::{Parameters, failed},
};
use crate::error::{Error, Result};

/// Where a primary is. What was committed is flushed, except where nobody waits for that.
pub(super) const POSITION: &str =
    "SELECT (CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn()
        ELSE pg_current_wal_flush_lsn() END - '0/0')::bigint AS position";

/// The oldest answer that anybody gets: whoever was removed from an organization sees no more of it
/// after this.
const MOST_STALE: Duration = Duration::from_mins(1);

/// A position in the write-ahead log; clients hand it back as they got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(i64);

impl Lsn {
    /// Reads what its `Display` has written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_written = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lsn = is_written.then(|| i64::from_str_radix(text, 16)).and_then(Result::ok);
        lsn.map(Self)
    }

    /// From the answer to [`POSITION`].
    pub(super) fn of(rows: &[Row]) -> Result<Self> {
        let row = rows.first().ok_or_else(|| Error::internal("no position was answered"))?;
        Ok(Self(row.try_get("position").map_err(failed)?))
    }

    pub(super) fn bytes(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// The position behind a transaction's last commit, where somebody wants to know it.
#[derive(Debug, Default)]
pub(super) struct CommitLsn {
    is_wanted: AtomicBool,
    lsn: Mutex<Option<Lsn>>,
}

impl CommitLsn {
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<Lsn> {
        *self.lsn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks where the primary is, behind whatever was sent there before.
    pub(super) async fn set(&self, primary: &Connection) -> Result<()> {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Large, and every commit would carry it.
        let answer =
            Box::pin(primary.query(None, POSITION, &Parameters::of(None)?, unbounded)).await;
        let lsn = answer.map_err(Error::from).and_then(|answer| Lsn::of(&answer.rows));
        let known = lsn.as_ref().ok().copied();
        *self.lsn.lock().unwrap_or_else(PoisonError::into_inner) = known;
        lsn.map(drop)
    }
}

/// How fresh an answer must be for a client that does not ask for the freshest.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// What was committed longer ago than this is in it.
    pub max_staleness: Duration,
    /// What was committed up to here is in it: the client's own last change.
    pub after: Option<Lsn>,
}

/// Where the primary was when, as far back as anybody may ask for.
#[derive(Debug, Default)]
pub(super) struct LsnHistory(Mutex<VecDeque<(Instant, Lsn)>>);

impl LsnHistory {
    /// Remembers where the primary was: what was committed before `at` is not behind `position`.
    pub(super) fn note(&self, at: Instant, lsn: Lsn) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((at, lsn));
        while known.front().is_some_and(|(at, _)| at.elapsed() > MOST_STALE) {
            known.pop_front();
        }
    }

    /// The position that makes an answer fresh enough; none where it is too long since anybody has
    /// seen the primary.
    pub(super) fn least(&self, freshness: Freshness) -> Option<Lsn> {
        let Freshness { max_staleness, after } = freshness;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        assert_eq!(least(&lsn_history, 4, None), None, "nobody has seen the primary since");
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
