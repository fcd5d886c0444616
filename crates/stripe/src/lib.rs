//! Stripe: the API calls that tenantry makes, and the parts of Stripe's responses and events that
//! it understands.
//!
//! Parsing reads only the needed fields and is lenient, because events arrive in the API version of
//! the Stripe account.

mod client;
mod event;
mod signature;
mod subscription;

pub use client::{Checkout, Hosted, Stripe, StripeOptions};
pub use event::{Event, Subject};
pub use signature::{SignatureError, verify};
pub use subscription::{Status, Subscription};

/// Why a call of Stripe's API failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stripe did not respond, or cannot process the call now.
    #[error(transparent)]
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// Stripe refused the call, or its response is not as documented.
    #[error("{0}")]
    Refused(String),
}

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
