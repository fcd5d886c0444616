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
pub use subscription::Subscription;
