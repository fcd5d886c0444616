//! Text from clients: trimmed, bounded, and without characters that are not text.

use crate::error::{Error, Result};

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
    bounded(field, text, most, char::is_control)
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
    let refused = |char: char| char.is_control() && !matches!(char, '\n' | '\r' | '\t');
    bounded(field, text, most, refused).map(Some)
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
        return Err(Error::bad_input(field, "must not contain control characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_trimmed_bounded_and_clean() {
        assert_eq!(line("f", "  a b ", 3).unwrap(), "a b");
        assert!(line("f", "äöüß", 4).is_ok());
        for bad in ["", "   ", "abcd", "a\0", "a\nb"] {
            assert!(line("f", bad, 3).is_err(), "{bad:?}");
        }
        assert_eq!(block("f", " a\nb ", 3).unwrap().as_deref(), Some("a\nb"));
        assert_eq!(block("f", "  ", 3).unwrap(), None);
        assert!(block("f", "a\u{7}", 3).is_err());
    }
}
