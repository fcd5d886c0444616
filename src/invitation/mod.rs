//! Invitations: an offer of a seat, bound to a verified e-mail address, good once and for a while.

mod display;
mod graphql;
mod letter;
mod ops;
mod token;

pub use graphql::{Invitation, InvitationConnection, InvitationMutation, InvitationTotal};
pub use letter::compose;
pub use ops::{accept, list};
