//! Projects: the example to follow for every further tenant-owned resource.

mod area;
mod graphql;
mod loader;
mod name;
mod ops;

pub use area::ProjectArea;
pub use graphql::{Project, ProjectsOfMember};
pub use name::{Description, ProjectName};
