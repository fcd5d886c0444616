//! The key that a client gives to a mutation, parsed so that it cannot be malformed.

const MAX_BYTES: usize = 255;

/// The value of the header `Idempotency-Key`: 1 to 255 visible ASCII characters, preferably a UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses a key.
    ///
    /// # Errors
    ///
    /// Returns a description of a valid key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let is_key = (1..=MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_key {
            Ok(Self(text.to_owned()))
        } else {
            Err("Idempotency-Key must be 1 to 255 visible ASCII characters. Use a UUID.")
        }
    }

    /// The key as the client sent it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
