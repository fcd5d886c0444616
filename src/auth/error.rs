//! Why a caller is not authenticated.

/// Why a token is refused; the text is sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(pub &'static str);

/// The token has expired. It was valid once, so this is not an attempt at guessing.
pub const EXPIRED: TokenError = TokenError("the token has expired");

/// The issuer's keys could not be fetched.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the issuer's keys cannot be fetched: {0}")]
pub struct KeysUnavailable(pub(super) String);

/// Why a caller could not be verified.
#[derive(Debug)]
pub enum VerifyError {
    /// The token is not valid.
    Token(TokenError),
    /// The token names an unknown key, and the issuer's keys cannot be fetched.
    Unavailable(KeysUnavailable),
}

impl From<TokenError> for VerifyError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}
