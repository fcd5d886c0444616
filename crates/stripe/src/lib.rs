//! Stripe: the API calls that tenantry makes, and the parts of Stripe's responses and events that
//! it understands.
//!
//! Parsing reads only the needed fields and is lenient, because events arrive in the API version of
//! the Stripe account.

mod client;
mod escapes;
mod event;
mod fields;
mod signature;
mod subscription;

pub use client::{Checkout, Hosted, Quantity, Stripe, StripeOptions};
pub use event::{Event, Subject};
pub use signature::{SignatureError, verify};
pub use subscription::{Item, Status, Subscription};

/// Why a call of Stripe's API failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stripe did not respond, or cannot process the call now.
    #[error(transparent)]
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// Stripe does not allow this call in the present state of its objects: one of them is missing,
    /// has ended or is inactive.
    #[error("{0}")]
    Invalid(String),
    /// The subscription in Stripe's response has a value that this version does not know.
    #[error("{0}")]
    Unreadable(String),
    /// Stripe refused the key, or its response is not as documented.
    #[error("{0}")]
    Refused(String),
}

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
