//! Parsers for text from clients. What they return is trimmed, bounded and free of control
//! characters; names and addresses also contain no invisible characters. Also computes the digest
//! of a text.

mod bounded;
mod digest;
mod email;

use unicode_normalization::char::is_combining_mark;

pub use bounded::{Block, BoundedJson, Line};
pub use digest::sha256;
pub use email::Email;

use crate::error::{Error, Result};

/// Parses one line of 1 to `most` characters.
///
/// # Errors
///
/// Returns an error that names `field` and says what is wrong.
pub fn line(field: &'static str, input: &str, most: usize) -> Result<String> {
    let text = input.trim();
    if text.is_empty() {
        return Err(Error::bad_input(field, "must not be empty"));
    }
    bounded(field, text, most, |char| char.is_control() || is_invisible(char))?;
    if !text.chars().any(is_visible) {
        return Err(Error::bad_input(field, "must contain a visible character"));
    }
    Ok(text.to_owned())
}

/// Cleans a name from a token: removes control, ignorable and direction-changing characters, and
/// cuts the rest to `most` characters. Joiners and variation selectors stay after the letters and
/// emoji that need them, none of which is ASCII. `None` if no visible character remains.
#[must_use]
pub fn display_name(text: &str, most: usize) -> Option<String> {
    let mut last = ' ';
    let kept = text.chars().filter(|char| {
        let belongs = !last.is_ascii() && !is_ignorable(last) && !is_invisible(*char);
        let is_kept = !char.is_control() && (!is_ignorable(*char) || belongs);
        if is_kept {
            last = *char;
        }
        is_kept
    });
    let clean: String = kept.take(most).collect();
    let clean = clean.trim();
    clean.contains(is_visible).then(|| clean.to_owned())
}

/// Whether a character alone shows something. A mark needs a letter before it.
fn is_visible(char: char) -> bool {
    !(is_ignorable(char) || char.is_whitespace() || is_combining_mark(char))
}

/// Parses text of any number of lines and at most `most` characters. `None` if it is empty.
///
/// # Errors
///
/// Returns an error that names `field` and says what is wrong.
pub fn block(field: &'static str, input: &str, most: usize) -> Result<Option<String>> {
    let text = input.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let refused =
        |char: char| is_invisible(char) || char.is_control() && !matches!(char, '\n' | '\r' | '\t');
    bounded(field, text, most, refused).map(Some)
}

/// Whether text never needs this ignorable character. The joiners U+200C and U+200D belong to the
/// spelling of many languages, and the variation selectors U+FE0E and U+FE0F to emoji.
#[must_use]
pub fn is_invisible(char: char) -> bool {
    is_ignorable(char) && !matches!(char, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// Unicode's `Default_Ignorable_Code_Point`, which includes the bidirectional controls, plus the
/// line and paragraph separators, the annotation and object marks, noncharacters, and the blank
/// Braille pattern, hieroglyphs and note head. Text with these characters can look like other text,
/// or like no text.
fn is_ignorable(char: char) -> bool {
    let ends_a_plane = u32::from(char) & 0xfffe == 0xfffe;
    ends_a_plane
        || matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{fdd0}'..='\u{fdef}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{13441}'..='\u{13442}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn bounded(
    field: &'static str,
    text: &str,
    most: usize,
    refused: impl Fn(char) -> bool,
) -> Result<String> {
    // Stops counting at the limit, because the text may be long.
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
    fn text_is_trimmed_bounded_and_clean() {
        assert_eq!(line("f", "  a b ", 3).unwrap(), "a b");
        assert!(line("f", "äöüß", 4).is_ok());
        assert!(line("f", "\u{2764}\u{fe0f}", 3).is_ok());
        assert_eq!(display_name(" a\u{202e}\u{ad}\u{200d}b\0 ", 3).as_deref(), Some("ab"));
        // An astronaut, and a Persian name.
        for whole in
            ["\u{1f469}\u{200d}\u{1f680}", "\u{645}\u{6cc}\u{200c}\u{62e}", "\u{2764}\u{fe0f}"]
        {
            assert_eq!(display_name(whole, 9).as_deref(), Some(whole));
        }
        assert_eq!(
            display_name("\u{645}\u{200c}\u{200c}a\u{fe0f}", 9).as_deref(),
            Some("\u{645}\u{200c}a")
        );
        for blank in ["\u{3164}\u{2800} ", "\u{301}", "\u{1d159}\u{a0}"] {
            assert_eq!(display_name(blank, 3), None, "{blank:?}");
        }
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
            "\u{1d159}",
            "\u{fff9}",
            "\u{301}\u{308}",
        ] {
            assert!(line("f", bad, 3).is_err(), "{bad:?}");
        }
        assert_eq!(block("f", " a\nb ", 3).unwrap().as_deref(), Some("a\nb"));
        assert_eq!(block("f", "  ", 3).unwrap(), None);
        assert!(block("f", "a\u{7}", 3).is_err());
    }
}
