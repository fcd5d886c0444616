//! The scalar for days without a time.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::NaiveDate;

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(pub NaiveDate);

/// A day without a time zone, for example `2026-01-31`: RFC 3339 `full-date`, in the years 1 to
/// 9999.
#[Scalar(name = "Date", specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339")]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        let date = match &value {
            Value::String(text) if text.len() == "2026-01-31".len() => {
                // Parsing skips white space and takes shorter numbers.
                text.parse().ok().filter(|date: &NaiveDate| date.to_string() == *text)
            }
            _ => None,
        };
        let first = NaiveDate::from_ymd_opt(1, 1, 1);
        date.filter(|date| Some(*date) >= first)
            .map(Self)
            .ok_or_else(|| InputValueError::custom("must be a day such as 2026-01-31"))
    }

    fn to_value(&self) -> Value {
        self.0.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_one_form() {
        let parse = |text: &str| Date::parse(text.into()).ok();
        assert_eq!(parse("2026-01-31").unwrap().to_value(), "2026-01-31".into());
        for bad in
            ["2026-02-30", "0000-01-01", "2026-1-31", "26-01-0031", " 2026-1-31", "-206-01-31", ""]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
