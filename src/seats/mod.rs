//! Seats: the size of a team, which per-seat subscriptions follow or limit.

mod open;
mod ops;
mod settings;

pub(crate) use open::{IN_USE, IS_OPEN, TEAM_MEMBERS};
pub(crate) use ops::{allowance, follow, follow_expiry, require, team_size};
pub use settings::{Proration, SeatsMode, Settings};
