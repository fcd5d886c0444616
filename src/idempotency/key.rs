//! The key that a client gives to a mutation, parsed so that it cannot be malformed.

use uuid::Uuid;

const MAX_BYTES: usize = 255;

/// The value of the header `Idempotency-Key`: 1 to 255 visible ASCII characters, preferably a UUID.
/// Clients write one key in several forms: as a string of RFC 9651, in quotes, or without quotes,
/// and a UUID in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses a key.
    ///
    /// # Errors
    ///
    /// Returns a description of a valid key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let key = inside.unwrap_or(text);
        let is_key =
            (1..=MAX_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_key {
            return Err("Idempotency-Key must be 1 to 255 visible ASCII characters. Use a UUID.");
        }
        let canonical = Uuid::try_parse(key).map(|uuid| uuid.to_string());
        Ok(Self(canonical.unwrap_or_else(|_| key.to_owned())))
    }

    /// The key in its canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
            uuid.replace('-', ""),
        ] {
            assert_eq!(key(&same), key(uuid), "{same}");
        }
        assert_eq!(key("\"order-7\""), key("order-7"));
        assert_ne!(key("Order-7"), key("order-7"));
        assert_eq!(key("\"").as_str(), "\"");
        for invalid in ["", "\"\"", "\"a b\"", "\u{fc}"] {
            assert!(IdempotencyKey::parse(invalid).is_err(), "{invalid}");
        }
    }
}
