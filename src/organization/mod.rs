//! Organizations: the tenants themselves, and the place on which everything of theirs hangs.

mod graphql;
mod loader;
mod name;
mod ops;

pub use graphql::{Organization, OrganizationMutation, OrganizationQuery};
pub use name::{OrganizationName, Slug};
pub use ops::find_by_name;
