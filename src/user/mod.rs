//! Users: the caller with their identities and memberships, and the users of the current
//! organization.

mod area;
mod graphql;
mod identity;
mod loader;
mod ops;
mod received_graphql;
mod received_invitation;

pub use area::UserArea;
pub use graphql::User;
pub use loader::UserById;
pub use ops::{Membership, memberships};
pub use received_graphql::ReceivedInvitation;
pub use received_invitation::{Obstacle, Received, find_invitation, invitations};
