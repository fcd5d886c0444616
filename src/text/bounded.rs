//! Values from clients as types that hold only valid ones: what is parsed into them fits the limit
//! that the type names, and PostgreSQL can store it.

use serde_json::Value;

use super::{block, line};
use crate::error::{Error, Result};

/// Text of one line and 1 to `MOST` characters, without surrounding white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<const MOST: usize>(String);

impl<const MOST: usize> Line<MOST> {
    /// Parses the value of `field`.
    ///
    /// # Errors
    ///
    /// [`Error::BadUserInput`] if the text is empty, too long or contains control characters.
    pub fn parse(field: &'static str, input: &str) -> Result<Self> {
        line(field, input, MOST).map(Self)
    }

    /// Parses the value of `field`, which may be absent or empty.
    ///
    /// # Errors
    ///
    /// As [`Line::parse`].
    pub fn parse_optional(field: &'static str, input: Option<&str>) -> Result<Option<Self>> {
        let text = input.filter(|text| !text.trim().is_empty());
        text.map(|text| Self::parse(field, text)).transpose()
    }

    /// Returns the text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Text of any number of lines and 1 to `MOST` characters, without surrounding white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<const MOST: usize>(String);

impl<const MOST: usize> Block<MOST> {
    /// Parses the value of `field`.
    ///
    /// # Errors
    ///
    /// [`Error::BadUserInput`] if the text is empty, too long or contains control characters other
    /// than line breaks and tabs.
    pub fn parse(field: &'static str, input: &str) -> Result<Self> {
        let text = Self::parse_optional(field, Some(input))?;
        text.ok_or_else(|| Error::bad_input(field, "must not be empty"))
    }

    /// Parses the value of `field`, which may be absent or empty.
    ///
    /// # Errors
    ///
    /// As [`Block::parse`].
    pub fn parse_optional(field: &'static str, input: Option<&str>) -> Result<Option<Self>> {
        let text = input.map(|text| block(field, text, MOST)).transpose()?;
        Ok(text.flatten().map(Self))
    }

    /// Returns the text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A JSON value of at most `MOST` bytes as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundedJson<const MOST: usize>(Value);

impl<const MOST: usize> BoundedJson<MOST> {
    /// Parses the value of `field`.
    ///
    /// # Errors
    ///
    /// [`Error::BadUserInput`] if the value is too long or contains the character U+0000.
    pub fn parse(field: &'static str, input: Value) -> Result<Self> {
        let text = input.to_string();
        if text.len() > MOST {
            return Err(Error::bad_input(field, format!("must have at most {MOST} bytes as JSON")));
        }
        if text.contains("\\u0000") {
            return Err(Error::bad_input(field, "must not contain the character U+0000"));
        }
        Ok(Self(input))
    }

    /// Returns the value.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_within_their_limits_are_kept_and_others_are_refused() {
        assert_eq!(Line::<3>::parse("f", " abc ").unwrap().into_string(), "abc");
        assert!(Line::<3>::parse("f", "abcd").is_err() && Line::<3>::parse("f", " ").is_err());
        assert_eq!(Line::<3>::parse_optional("f", Some(" ")).unwrap(), None);
        assert!(Line::<3>::parse_optional("f", Some("abcd")).is_err());
        assert_eq!(Block::<3>::parse("f", "a\nb").unwrap().into_string(), "a\nb");
        assert!(Block::<3>::parse("f", "abcd").is_err() && Block::<3>::parse("f", " ").is_err());
        assert_eq!(Block::<3>::parse_optional("f", None).unwrap(), None);
        assert_eq!(BoundedJson::<9>::parse("f", json!({ "a": 1 })).unwrap().into_value()["a"], 1);
        assert!(BoundedJson::<9>::parse("f", json!("12345678")).is_err());
        assert!(BoundedJson::<9>::parse("f", json!("\0")).is_err());
    }
}
