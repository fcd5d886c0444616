//! Calendar months in UTC, the periods in which usage is counted.

use chrono::{DateTime, Datelike, Months, NaiveTime, Utc};

/// The start of the calendar month in UTC that contains `now`, and the start of the next month.
#[must_use]
pub fn month_of(now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let first = now.date_naive().with_day(1).unwrap_or(now.date_naive());
    let start = first.and_time(NaiveTime::MIN).and_utc();
    (start, start.checked_add_months(Months::new(1)).unwrap_or(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_runs_from_midnight_to_midnight_in_utc() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(
            month_of(at("2026-12-31T23:59:59.999Z")),
            (at("2026-12-01T00:00:00Z"), at("2027-01-01T00:00:00Z"))
        );
        assert_eq!(month_of(at("2026-02-01T00:00:00Z")).0, at("2026-02-01T00:00:00Z"));
    }
}
