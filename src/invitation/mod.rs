//! Invitations: offers of membership, each bound to a verified e-mail address. An invitation can be
//! accepted once, before it expires.

mod email;
mod graphql;
mod ops;
mod quoted_name;
mod received_graphql;
mod reference;
mod settings;
mod token;

pub use crate::seats::IS_OPEN;
pub use email::compose;
pub use graphql::{Invitation, InvitationConnection, InvitationMutation, InvitationTotal};
pub use ops::{accept, list};
pub use received_graphql::{InvitationQuery, ReceivedInvitationMutation, reference};
pub use settings::Settings;
