//! Invitations: offers of membership, each bound to a verified e-mail address. An invitation can be
//! accepted once, before it expires.

mod email;
mod graphql;
mod ops;
mod quoted_name;
mod settings;
mod token;

pub use email::compose;
pub use graphql::{Invitation, InvitationConnection, InvitationMutation, InvitationTotal};
pub use ops::{accept, list, token_hash};
pub use settings::Settings;
