//! Replaces what JSON allows in text and PostgreSQL cannot store: NUL and halves of surrogate
//! pairs.

use std::borrow::Cow;

const REPLACEMENT: &str = "\\ufffd";

/// JSON text in which every string can be stored. In JSON a backslash occurs only in strings, where
/// it begins an escape.
pub(crate) fn without_unstorable(json: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(json);
    if !text.contains("\\u") {
        return text;
    }
    let (mut clean, mut rest) = (String::with_capacity(text.len()), &*text);
    while let Some(at) = rest.find('\\') {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, can_be_stored) = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => (12, true),
            (Some(0 | 0xD800..0xE000), _) => (6, false),
            (Some(_), _) => (6, true),
            // Another escape, which may be an escaped backslash.
            (None, _) => (rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end), true),
        };
        let (escape, following) = rest.split_at(length);
        clean.push_str(if can_be_stored { escape } else { REPLACEMENT });
        rest = following;
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// The UTF-16 unit of the escape that begins the text, if it is one of that kind.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn text_that_postgresql_cannot_store_is_replaced() {
        for (text, expected) in [
            (r"a\u0000b", json!("a\u{fffd}b")),
            (r"\ud83d\ude80 \u00e9", json!("\u{1f680} \u{e9}")),
            (r"\ud83d", json!("\u{fffd}")),
            (r"\ude80\ud83d!", json!("\u{fffd}\u{fffd}!")),
            (r"\ud83d\ud83d\uDE80", json!("\u{fffd}\u{1f680}")),
            (r"\\u0000 \\\u0000 \n", json!("\\u0000 \\\u{fffd} \n")),
        ] {
            let body = format!(r#"{{"{text}":"{text}"}}"#);
            let parsed: Value = serde_json::from_str(&without_unstorable(body.as_bytes())).unwrap();
            assert_eq!(parsed, json!({ expected.as_str().unwrap(): expected }), "{text}");
        }
        assert_eq!(without_unstorable(b"\"\xff\""), "\"\u{fffd}\"");
        for broken in [r#""\u00"#, r#""\"#, r#""\u+123""#, "\"\\u\u{e9}\""] {
            assert_eq!(without_unstorable(broken.as_bytes()), broken);
        }
    }
}
