//! The periods in which usage is counted: calendar months in UTC, and billing periods.

use chrono::{DateTime, Datelike, Months, NaiveTime, SubsecRound, Utc};

use crate::error::{Error, Result};

/// The start of the calendar month in UTC that contains `now`, and the start of the next month.
#[must_use]
pub fn month_of(now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let first = now.date_naive().with_day(1).unwrap_or(now.date_naive());
    let start = first.and_time(NaiveTime::MIN).and_utc();
    (start, start.checked_add_months(Months::new(1)).unwrap_or(start))
}

/// Checks that PostgreSQL can represent a time of a client.
///
/// # Errors
///
/// [`Error::BadUserInput`] for a year outside 1 to 9999.
pub fn check_year(
    field: &'static str,
    time: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>> {
    match time {
        Some(time) if !(1..=9999).contains(&time.year()) => {
            Err(Error::bad_input(field, "must be in the years 1 to 9999"))
        }
        time => Ok(time),
    }
}

/// Checks that PostgreSQL can represent a time of a client, and rounds it down to its precision.
///
/// # Errors
///
/// As [`check_year`].
pub fn storable(field: &'static str, time: DateTime<Utc>) -> Result<DateTime<Utc>> {
    check_year(field, Some(time))?;
    Ok(time.trunc_subsecs(6))
}

/// The period that contains `now`, if periods follow each other from the one between `start` and
/// `end`, each as many months long.
#[must_use]
pub fn continued(
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    now: DateTime<Utc>,
) -> (DateTime<Utc>, DateTime<Utc>) {
    if now < end {
        return (start, end);
    }
    // A month has 28 to 31 days, so the number of months is the nearest one.
    let months = u32::try_from(((end - start).num_hours() + 365) / 730).unwrap_or(1).max(1);
    // Each is counted from the first end, so that the 31st returns after a shorter month.
    let nth = |number: u32| end.checked_add_months(Months::new(months.saturating_mul(number)));
    let passed = u32::try_from((now - end).num_days() / 31).unwrap_or(0) / months;
    let next = (passed..).find_map(|number| match nth(number + 1) {
        Some(next) if next <= now => None,
        next => Some((nth(number).unwrap_or(end), next.unwrap_or(now))),
    });
    next.unwrap_or((start, end))
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

    #[test]
    fn periods_continue_after_the_last_known_one() {
        let day = |text: &str| format!("{text}T12:00:00Z").parse::<DateTime<Utc>>().unwrap();
        let monthly = |now| continued(day("2026-01-31"), day("2026-02-28"), day(now));
        assert_eq!(monthly("2026-01-01"), (day("2026-01-31"), day("2026-02-28")));
        assert_eq!(monthly("2026-02-27"), (day("2026-01-31"), day("2026-02-28")));
        assert_eq!(monthly("2026-02-28"), (day("2026-02-28"), day("2026-03-28")));
        assert_eq!(monthly("2027-03-27"), (day("2027-02-28"), day("2027-03-28")));
        assert_eq!(monthly("2036-12-28"), (day("2036-12-28"), day("2037-01-28")));
        let yearly = |now| continued(day("2026-03-01"), day("2027-03-01"), day(now));
        assert_eq!(yearly("2028-02-29"), (day("2027-03-01"), day("2028-03-01")));
        assert_eq!(yearly("2030-03-01"), (day("2030-03-01"), day("2031-03-01")));
    }
}
