//! Text from clients: trimmed, bounded, and without characters that are not text.

use crate::error::{Error, Result};

/// RFC 5321, section 4.5.3.1: 64 for the local part, 255 for the domain, and the sign between.
const MAX_EMAIL_BYTES: usize = 320;

/// An e-mail address in lower case, of a form that can be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// The address in a text, if it is one; white space around it is not part of it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // Some letters of other scripts become ASCII in lower case: they would make one mailbox of two.
        let folds =
            |char: char| !char.is_ascii() && char.to_lowercase().any(|lower| lower.is_ascii());
        let odd = |char: char| is_invisible(char) || folds(char) || "<>()[],;:\\\"".contains(char);
        if text.contains(odd) {
            return None;
        }
        let email = text.to_lowercase();
        let (local, domain) = email.split_once('@')?;
        let plausible = email.len() <= MAX_EMAIL_BYTES
            && !local.is_empty()
            && !domain.is_empty()
            && !domain.contains('@')
            && !email.chars().any(|char| char.is_control() || char.is_whitespace());
        plausible.then_some(Self(email))
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A line of 1 to `most` characters.
///
/// # Errors
///
/// Names `field` and says what is wrong.
pub fn line(field: &'static str, input: &str, most: usize) -> Result<String> {
    let text = input.trim();
    if text.is_empty() {
        return Err(Error::bad_input(field, "must not be empty"));
    }
    bounded(field, text, most, |char| char.is_control() || is_invisible(char))
}

/// Lines of up to `most` characters in all; `None` when nothing is left.
///
/// # Errors
///
/// Names `field` and says what is wrong.
pub fn block(field: &'static str, input: &str, most: usize) -> Result<Option<String>> {
    let text = input.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let refused =
        |char: char| is_invisible(char) || char.is_control() && !matches!(char, '\n' | '\r' | '\t');
    bounded(field, text, most, refused).map(Some)
}

/// What is not seen, or turns the direction of what is: names must not look like others, or like nothing. The joiners
/// U+200C and U+200D are letters' neighbours in many languages.
#[must_use]
pub fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn bounded(
    field: &'static str,
    text: &str,
    most: usize,
    refused: impl Fn(char) -> bool,
) -> Result<String> {
    // Counting stops at the limit: the text may be long.
    if text.chars().take(most + 1).count() > most {
        return Err(Error::bad_input(field, format!("must have at most {most} characters")));
    }
    if text.chars().any(refused) {
        return Err(Error::bad_input(field, "must not contain control or invisible characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_folded_or_refused() {
        assert_eq!(Email::parse(" A.B@Example.COM ").unwrap().into_string(), "a.b@example.com");
        let long = format!("{}@x", "a".repeat(320));
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a\0@b",
            "mi\u{212a}e@b",
            "a,b@c",
            "a\u{200b}@b",
            "<a@b>",
            &long,
        ] {
            assert!(Email::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn text_is_trimmed_bounded_and_clean() {
        assert_eq!(line("f", "  a b ", 3).unwrap(), "a b");
        assert!(line("f", "äöüß", 4).is_ok());
        for bad in ["", "   ", "abcd", "a\0", "a\nb", "\u{200b}", "a\u{202e}"] {
            assert!(line("f", bad, 3).is_err(), "{bad:?}");
        }
        assert_eq!(block("f", " a\nb ", 3).unwrap().as_deref(), Some("a\nb"));
        assert_eq!(block("f", "  ", 3).unwrap(), None);
        assert!(block("f", "a\u{7}", 3).is_err());
    }
}
