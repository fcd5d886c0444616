//! Projects: the example to follow for every further tenant-owned resource.

mod area;
mod graphql;
mod loader;
mod mutation_graphql;
mod name;
mod ops;

pub use area::ProjectArea;
pub use graphql::{Project, ProjectsOfMember};
pub use loader::ProjectById;
pub use name::{Description, ProjectName};
