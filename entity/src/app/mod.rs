//! The rows and the typed ids of the product that is built on tenantry, one file per table.

use crate::id::ids;

pub mod project;

ids! {
    /// `app.projects`
    ProjectId,
}
