//! Invitations: an offer of a seat, bound to a verified e-mail address, good once and for a while.

mod display_name;
mod email;
mod graphql;
mod ops;
mod token;

pub use email::compose;
pub use graphql::{Invitation, InvitationConnection, InvitationMutation, InvitationTotal};
pub use ops::{accept, list};
