//! Billing: the state of an organization's subscription, managed by its owners or by Stripe.

mod area;
mod decision;
mod delivery;
mod graphql;
mod inbox;
mod mutation_graphql;
mod ops;
mod order;
mod recipient;
mod seat_sync;
mod settings;
mod state;
mod stored_event;
mod stripe;
mod subscription_sync;

pub use area::BillingArea;
pub use settings::Settings;

pub(crate) use inbox::{apply, receive};
pub(crate) use ops::{create, require_deletable};
pub(crate) use seat_sync::{SeatChange, find_seat_change, paid_seats, record_seats, set_seats};
pub(crate) use stored_event::Outcome;
