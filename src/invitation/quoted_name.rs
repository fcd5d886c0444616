//! Formats names for e-mails. Users choose the names of users and organizations. A name must not
//! close its quotation marks early or smuggle in a link or a message.

use crate::text::is_invisible;

/// Longer names are cut, so that a message does not fit.
const MAX_CHARS: usize = 60;

/// Full stops of other scripts. Browsers treat them as dots in a domain.
const DOTS: [char; 3] = ['\u{3002}', '\u{ff0e}', '\u{ff61}'];

/// Puts a name in quotation marks, on one line, without invisible characters and without text that
/// a mail client would turn into a link. Returns `None` if nothing is left.
pub(super) fn quoted(name: &str) -> Option<String> {
    let mut plain = String::new();
    let mut characters = name.chars().filter(|char| !is_invisible(*char)).peekable();
    while let Some(char) = characters.next() {
        match char {
            '@' => plain.push_str(" at "),
            char if char.is_control() => plain.push(' '),
            '"' | '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' => plain.push('\''),
            // A space after the character breaks up a domain or a scheme.
            '.' | ':' if characters.peek().is_some_and(|next| !next.is_whitespace()) => {
                plain.extend([char, ' ']);
            }
            char if DOTS.contains(&char) => plain.push_str(". "),
            char => plain.push(char),
        }
    }
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().take(MAX_CHARS).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    (!shown.is_empty()).then(|| format!("“{shown}”"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        for (name, shown) in [
            ("Acme", "“Acme”"),
            ("Ünïcode & Søns, Inc.", "“Ünïcode & Søns, Inc.”"),
            ("a\r\nBcc: b\n\nClick", "“a Bcc: b Click”"),
            ("x” wrote: “y", "“x' wrote: 'y”"),
            ("https://evil.com/a?b=c", "“https: //evil. com/a?b=c”"),
            ("www.evil.com", "“www. evil. com”"),
            ("evil\u{3002}com", "“evil. com”"),
            ("e\u{200b}vil\u{202e}.com", "“evil. com”"),
            ("mailto:a@evil.com", "“mailto: a at evil. com”"),
        ] {
            assert_eq!(quoted(name).as_deref(), Some(shown));
        }
        assert_eq!(quoted(" \u{200b}\n"), None);
        let long = quoted(&"é".repeat(100)).unwrap();
        assert_eq!((long.chars().count(), long.ends_with("é…”")), (63, true));
    }
}
