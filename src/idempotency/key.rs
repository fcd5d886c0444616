//! The key that a client gives to a mutation, parsed so that it cannot be malformed.

use uuid::Uuid;

const MAX_BYTES: usize = 255;

/// The value of the header `Idempotency-Key`: 1 to 255 visible ASCII characters, preferably a UUID.
/// Clients write one key in several forms: as a string of RFC 9651, in quotes and perhaps followed
/// by parameters, or without quotes, and a UUID in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses a key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let inside = unquoted(text);
        let key = inside.as_deref().unwrap_or(text);
        let is_key =
            (1..=MAX_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_key {
            return Err("Idempotency-Key must be 1 to 255 visible ASCII characters. Use a UUID.");
        }
        let canonical = Uuid::try_parse(key).map(|uuid| uuid.to_string());
        Ok(Self(canonical.unwrap_or_else(|_| key.to_owned())))
    }

    /// The key in its canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The content of a string of RFC 9651, without its parameters. `None` if it is no such string.
fn unquoted(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut content = String::new();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => content.push(chars.next().filter(|char| matches!(char, '"' | '\\'))?),
            char => content.push(char),
        }
    }
    let parameters = chars.as_str().trim_start();
    (parameters.is_empty() || parameters.starts_with(';')).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_has_several_forms() {
        let key = |text: &str| IdempotencyKey::parse(text).unwrap();
        let uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324";
        for same in [
            format!("\"{uuid}\""),
            uuid.to_uppercase(),
            format!("\"{}\"", uuid.to_uppercase()),
            format!("\"{uuid}\";v=1"),
            format!("\"{uuid}\"; v=1;w=\"a b\""),
            uuid.replace('-', ""),
        ] {
            assert_eq!(key(&same), key(uuid), "{same}");
        }
        assert_eq!(key("\"order-7\""), key("order-7"));
        assert_ne!(key("Order-7"), key("order-7"));
        assert_eq!(key(r#""a\"b\\c";v"#), key(r#"a"b\c"#));
        for literal in ["\"", "\"a", "\"a\"b", r#""a\b""#, r#""a\""#] {
            assert_eq!(key(literal).as_str(), literal);
        }
        for invalid in ["", "\"\"", "\"\";v=1", "\"a b\"", "\u{fc}"] {
            assert!(IdempotencyKey::parse(invalid).is_err(), "{invalid}");
        }
    }
}
