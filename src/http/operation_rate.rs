//! Charges every operation to the rate limits of its user and address before it is parsed.

use axum::{
    body::Body,
    http::{HeaderMap, Method},
};

use super::{
    Server,
    request_body::{RequestBody, from_body, from_query, read},
    unsupported::Unsupported,
};
use crate::{
    admission::Source,
    error::{Error, Result},
};

/// Counts operations that arrived in `bytes` of a request.
///
/// # Errors
///
/// If the user or the address exceeds its rate limit.
pub(super) fn charge(
    server: &Server,
    source: Source<'_>,
    operations: usize,
    bytes: usize,
) -> Result<()> {
    let service = &server.service;
    service.operations.check_operations(source, operations, bytes).inspect_err(|error| {
        service.metrics.refused(error.code().name());
        service.metrics.limited(error);
    })
}

/// Reads the operations of an HTTP request. They are counted before the body is parsed. The inner
/// error is an exceeded rate limit.
pub(super) async fn receive(
    server: &Server,
    source: Source<'_>,
    headers: &HeaderMap,
    method: &Method,
    query: &str,
    body: Body,
) -> Result<Result<RequestBody, Error>, Unsupported> {
    if method == Method::GET {
        return match charge(server, source, 1, query.len()) {
            Ok(()) => from_query(query).map(|asked| Ok(RequestBody::One(asked))),
            Err(error) => Ok(Err(error)),
        };
    }
    let bytes = read(headers, body, server.max_body_bytes).await?;
    if let Err(error) = charge(server, source, 1, bytes.len()) {
        return Ok(Err(error));
    }
    let incoming = from_body(&bytes)?;
    Ok(match &incoming {
        RequestBody::Batch(requests) if requests.len() > 1 => {
            charge(server, source, requests.len() - 1, 0).map(|()| incoming)
        }
        _ => Ok(incoming),
    })
}
