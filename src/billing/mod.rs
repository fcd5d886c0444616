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
pub use inbox::{apply, receive};
pub use ops::{create, get, require_deletable};
pub use seat_sync::{SeatChange, find_seat_change, paid_seats, record_seats, set_seats};
pub use settings::Settings;
pub use stored_event::Outcome;
