//! Organizations: the tenants. Everything else that belongs to a tenant is reached through its
//! organization.

mod area;
mod graphql;
mod loader;
mod mutation_graphql;
mod ops;
mod settings;
mod slug;

pub use area::OrganizationArea;
pub(crate) use graphql::Organization;
pub(crate) use mutation_graphql::AcceptInvitationInput;
pub(crate) use ops::find_by_name;
pub use settings::Settings;
pub(crate) use slug::Slug;
