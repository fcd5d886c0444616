//! The headers with which clients allow reads from a replica, and the headers that say which server
//! answered.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};

use super::unsupported::Unsupported;
use crate::{
    request::{Answer, RequestContext},
    tenancy::{Freshness, Lsn},
};

/// The most seconds by which the response may be stale. Without it the primary responds.
pub(super) const MAX_STALENESS: HeaderName = HeaderName::from_static("max-staleness");

/// In a response, the position of its write. In a request, the position that the response must
/// include.
pub(super) const WRITE_POSITION: HeaderName = HeaderName::from_static("write-position");

/// The database that served a request with `Max-Staleness`.
pub(super) const SERVED_BY: HeaderName = HeaderName::from_static("served-by");

/// Parses the headers of a request.
pub(super) fn freshness(headers: &HeaderMap) -> Result<Option<Freshness>, Unsupported> {
    let after = only(headers, &WRITE_POSITION)?.map(|text| {
        let message = "Write-Position must be a value from a response of this service";
        Lsn::parse(text).ok_or_else(|| Unsupported::bad(message))
    });
    let after = after.transpose()?;
    let max_staleness = only(headers, &MAX_STALENESS)?.map(|text| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = is_number.then(|| text.parse::<u32>().ok()).flatten();
        let message = "Max-Staleness must be a whole number of seconds";
        seconds.ok_or_else(|| Unsupported::bad(message))
    });
    let max_staleness = max_staleness.transpose()?;
    let max_staleness = max_staleness.map(|seconds| Duration::from_secs(seconds.into()));
    Ok(max_staleness.map(|max_staleness| Freshness { max_staleness, after }))
}

/// The value of a header that may be sent once. A value that is not text counts as empty.
fn only<'headers>(
    headers: &'headers HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'headers str>, Unsupported> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().unwrap_or_default());
    match values.next() {
        Some(_) => Err(Unsupported::bad(format!("the header {name} must be sent only once"))),
        None => Ok(value),
    }
}

/// What the headers of a response report about one or several answers.
#[derive(Clone, Copy, Default)]
pub(super) struct ServedHeaders {
    lsn: Option<Lsn>,
    /// The database that served, if the request has `Max-Staleness`.
    served_by: Option<&'static str>,
}

impl ServedHeaders {
    pub(super) fn of(answer: &Answer, asked: Option<Freshness>) -> Self {
        let served_by = asked.filter(|_| answer.executed).map(|_| answer.served_by());
        Self { lsn: answer.lsn, served_by }
    }

    /// Combines two answers in this order. Reports the replica only if it served both.
    pub(super) fn and(self, next: Self) -> Self {
        let primary = self.served_by.filter(|name| *name == "primary");
        Self {
            lsn: next.lsn.or(self.lsn),
            served_by: primary.or(next.served_by).or(self.served_by),
        }
    }

    /// Makes later operations of the batch include this answer's write.
    pub(super) fn precedes(self, call: &mut RequestContext) {
        if let Some(freshness) = &mut call.freshness {
            freshness.after = self.lsn.max(freshness.after);
        }
    }

    pub(super) fn set_headers(self, response: &mut Response) {
        let headers = response.headers_mut();
        let lsn = self.lsn.and_then(|at| HeaderValue::from_str(&at.to_string()).ok());
        if let Some(lsn) = lsn {
            headers.insert(WRITE_POSITION, lsn);
        }
        if let Some(name) = self.served_by {
            headers.insert(SERVED_BY, HeaderValue::from_static(name));
        }
    }
}
