//! The times of a token, compared with the injected clock on every use.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::error::{EXPIRED, TokenError};

/// The tolerated difference between the clocks of issuer and server, in seconds.
const LEEWAY_SECONDS: f64 = 30.0;

/// `iat`, `nbf` and `exp`, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    issued: Option<f64>,
    start: Option<f64>,
    expiry: f64,
}

impl Times {
    pub(super) fn of(claims: &Map<String, Value>) -> Result<Self, TokenError> {
        let time = |name: &str, error: &'static str| {
            let present = claims.get(name).filter(|time| !time.is_null());
            present.map(|time| time.as_f64().ok_or(TokenError(error))).transpose()
        };
        Ok(Self {
            issued: time("iat", "the token's iat claim is not a number")?,
            start: time("nbf", "the token's nbf claim is not a number")?,
            expiry: time("exp", "the token's exp claim is not a number")?
                .ok_or(TokenError("the token has no exp claim"))?,
        })
    }

    pub(super) fn check(self, now: f64) -> Result<(), TokenError> {
        if self.expiry + LEEWAY_SECONDS <= now {
            return Err(EXPIRED);
        }
        if self.start.is_some_and(|start| start - LEEWAY_SECONDS > now) {
            return Err(TokenError("the token is not valid yet"));
        }
        // Such a token would count as newer than all later tokens of the identity.
        if self.issued.is_some_and(|issued| issued - LEEWAY_SECONDS > now) {
            return Err(TokenError("the token's iat claim is in the future"));
        }
        Ok(())
    }

    /// `iat`, but not before 1970, which every database can store.
    pub(super) fn issued_at(self) -> Option<DateTime<Utc>> {
        #[expect(clippy::cast_possible_truncation, reason = "a time in the future was refused")]
        let micros = |issued: f64| (issued.max(0.0) * 1_000_000.0) as i64;
        DateTime::from_timestamp_micros(micros(self.issued?))
    }

    pub(super) fn expires_at(self) -> DateTime<Utc> {
        #[expect(clippy::cast_possible_truncation, reason = "a time that does not fit is far away")]
        let seconds = (self.expiry + LEEWAY_SECONDS) as i64;
        DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}
