//! Invitations: offers of membership, each bound to a verified e-mail address. An invitation can be
//! accepted once, before it expires.

mod area;
mod email;
mod graphql;
mod ops;
mod quoted_name;
mod received_graphql;
mod reference;
mod settings;
mod token;

pub(crate) use crate::seats::IS_OPEN;
pub use area::InvitationArea;
pub use email::compose;
pub use ops::accept;
pub use received_graphql::reference;
pub use settings::Settings;
