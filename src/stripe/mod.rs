//! Stripe: the few calls that tenantry makes, and what it understands of Stripe's answers and
//! events.
//!
//! Only what is needed is read, and read leniently: events come in whatever API version the account
//! has.

mod client;
mod event;
mod signature;
mod subscription;

pub use client::{Checkout, Hosted, Stripe, StripeOptions};
pub use event::{Event, Subject};
pub use signature::{SignatureError, verify};
pub use subscription::Subscription;
