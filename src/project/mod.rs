//! Projects: the example to follow for every further tenant-owned resource.

mod graphql;
mod loader;
mod name;
mod ops;

pub use graphql::{Project, ProjectConnection, ProjectMutation, ProjectSubscription, ProjectTotal};
pub use loader::ProjectById;
pub use name::{Description, ProjectName};
pub use ops::{IN_USE, PROJECTS, list};
