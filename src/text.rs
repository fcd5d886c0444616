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
        // Some letters of other scripts become ASCII in lower case: they would make one mailbox of
        // two.
        let folds =
            |char: char| !char.is_ascii() && char.to_lowercase().any(|lower| lower.is_ascii());
        let odd = |char: char| is_ignorable(char) || folds(char) || "<>()[],;:\\\"".contains(char);
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
    bounded(field, text, most, |char| char.is_control() || is_invisible(char))?;
    if text.chars().all(|char| is_ignorable(char) || char.is_whitespace()) {
        return Err(Error::bad_input(field, "must contain a visible character"));
    }
    Ok(text.to_owned())
}

/// A name from a token without control, ignorable or direction-changing characters, cut to `most`
/// characters. `None` when nothing visible is left.
#[must_use]
pub fn display_name(text: &str, most: usize) -> Option<String> {
    let kept = text.chars().filter(|char| !char.is_control() && !is_ignorable(*char));
    let clean: String = kept.take(most).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
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

/// Ignorable characters that no text needs. The joiners U+200C and U+200D belong to the spelling of
/// many languages, the variation selectors U+FE0E and U+FE0F to emoji.
#[must_use]
pub fn is_invisible(char: char) -> bool {
    is_ignorable(char) && !matches!(char, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// Unicode's `Default_Ignorable_Code_Point`, which contains the bidirectional controls, the
/// separators of lines and paragraphs, and the blank Braille pattern: text with them can look like
/// other text, or like none.
fn is_ignorable(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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
            "a\u{200d}@b",
            "a\u{ad}@b",
            "a@b\u{fe0f}",
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
        assert!(line("f", "\u{2764}\u{fe0f}", 3).is_ok());
        assert_eq!(display_name(" a\u{202e}\u{ad}\u{200d}b\0 ", 3).as_deref(), Some("ab"));
        assert_eq!(display_name("\u{3164}\u{2800} ", 3), None);
        for bad in [
            "",
            "   ",
            "abcd",
            "a\0",
            "a\nb",
            "\u{200b}",
            "a\u{202e}",
            "\u{3164}",
            "\u{fe0f}",
            "\u{200d} \u{200d}",
        ] {
            assert!(line("f", bad, 3).is_err(), "{bad:?}");
        }
        assert_eq!(block("f", " a\nb ", 3).unwrap().as_deref(), Some("a\nb"));
        assert_eq!(block("f", "  ", 3).unwrap(), None);
        assert!(block("f", "a\u{7}", 3).is_err());
    }
}
