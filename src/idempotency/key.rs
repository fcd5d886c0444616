//! The key that a client names a mutation with.

const MOST_BYTES: usize = 255;

/// What the header `Idempotency-Key` says: up to 255 visible characters of ASCII, best a UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads a key.
    ///
    /// # Errors
    ///
    /// What a key must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let is_key = (1..=MOST_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_key {
            Ok(Self(text.to_owned()))
        } else {
            Err("Idempotency-Key must be 1 to 255 visible characters of ASCII")
        }
    }

    /// As the client wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
