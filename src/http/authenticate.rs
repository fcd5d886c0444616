//! Who sends a request: the bearer token (RFC 6750) of its headers.

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, header};

use super::Server;
use crate::{
    auth::{Caller, EXPIRED, TokenError, VerifyError},
    error::Error,
};

/// There is no token.
pub(super) const NO_TOKEN: TokenError = TokenError("send a token: Authorization: Bearer …");

/// Who shows the token in the headers.
pub(super) async fn authenticate(
    server: &Server,
    headers: &HeaderMap,
) -> Result<Arc<Caller>, VerifyError> {
    let token = bearer(headers)?;
    server.verifier.verify(token).await
}

/// What is told to somebody whose token is not good, or cannot be checked now; who shows many bad
/// ones from an address is to wait.
pub(super) fn refused_caller(
    server: &Server,
    error: VerifyError,
    address: Option<IpAddr>,
) -> Error {
    match error {
        VerifyError::Token(error) => {
            let counted = address.filter(|_| error != NO_TOKEN && error != EXPIRED);
            let limited =
                counted.and_then(|address| server.service.attempts.bad_token(address).err());
            limited.unwrap_or(Error::Unauthenticated(error.0))
        }
        VerifyError::Unavailable(cause) => Error::Unavailable(Arc::new(cause)),
    }
}

/// The token, unchecked.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    const MALFORMED: TokenError = TokenError("Authorization must be: Bearer TOKEN");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(NO_TOKEN)?;
    if values.next().is_some() {
        return Err(MALFORMED);
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(MALFORMED)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(MALFORMED) }
}
