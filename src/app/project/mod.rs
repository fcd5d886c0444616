//! Projects: what `tenantry new resource` writes, and the pages of projects of each member.

mod area;
mod graphql;
mod loader;
mod mutation_graphql;
mod ops;

pub use area::ProjectArea;
pub use graphql::{Project, ProjectsOfMember};
pub use loader::ProjectById;
