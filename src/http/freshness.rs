//! How fresh an answer must be, as clients say it in headers, and what they are told in turn.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};

use super::request_body::Unsupported;
use crate::{
    request::{Answer, Call},
    tenancy::{Freshness, Lsn},
};

/// The most seconds that an answer may be behind; without it there is no answer but the freshest.
pub(super) const MAX_STALENESS: HeaderName = HeaderName::from_static("max-staleness");

/// Of an answer: where what it tells of was written. Of a request: what its answer must not be
/// behind.
pub(super) const WRITE_POSITION: HeaderName = HeaderName::from_static("write-position");

/// Who has answered whoever would take an answer of the replica.
pub(super) const SERVED_BY: HeaderName = HeaderName::from_static("served-by");

/// What the headers of a request say.
pub(super) fn freshness(headers: &HeaderMap) -> Result<Option<Freshness>, Unsupported> {
    let after = only(headers, &WRITE_POSITION)?.map(|text| {
        let message = "Write-Position must be one that an answer of this service had";
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

/// The value of a header that may stand there once; what is no text is no value either.
fn only<'headers>(
    headers: &'headers HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'headers str>, Unsupported> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().unwrap_or_default());
    match values.next() {
        Some(_) => Err(Unsupported::bad(format!("the header {name} stands there twice"))),
        None => Ok(value),
    }
}

/// What is told of an answer, or of several.
#[derive(Clone, Copy, Default)]
pub(super) struct Told {
    lsn: Option<Lsn>,
    /// The database that has answered whoever would take an answer of the replica.
    served_by: Option<&'static str>,
}

impl Told {
    pub(super) fn of(answer: &Answer, asked: Option<Freshness>) -> Self {
        let served_by = asked.filter(|_| answer.executed).map(|_| answer.served_by());
        Self { lsn: answer.lsn, served_by }
    }

    /// Of both, in this order; the replica has answered where nobody else has.
    pub(super) fn and(self, next: Self) -> Self {
        let primary = self.served_by.filter(|name| *name == "primary");
        Self {
            lsn: next.lsn.or(self.lsn),
            served_by: primary.or(next.served_by).or(self.served_by),
        }
    }

    /// What comes after in the same batch has what was written before.
    pub(super) fn precedes(self, call: &mut Call) {
        if let Some(freshness) = &mut call.freshness {
            freshness.after = self.lsn.max(freshness.after);
        }
    }

    pub(super) fn tell(self, response: &mut Response) {
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
