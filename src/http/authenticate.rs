//! Authenticates a request by the bearer token (RFC 6750) in its headers.

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, header};

use super::Server;
use crate::{
    auth::{Caller, EXPIRED, TokenError, VerifyError},
    error::Error,
};

/// The request has no token.
pub(super) const NO_TOKEN: TokenError = TokenError("send a token: Authorization: Bearer …");

/// Returns the caller that the token in the headers names.
pub(super) async fn authenticate(
    server: &Server,
    headers: &HeaderMap,
) -> Result<Arc<Caller>, VerifyError> {
    let token = bearer(headers)?;
    server.verifier.verify(token).await
}

/// The error for a caller whose token is invalid or cannot be verified at the moment. An address
/// that sends many invalid tokens is rate-limited.
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

/// Returns the token without verifying it.
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
