//! `tenantry tenant list`: the placements of all organizations, as the control database has them.

use pg::Client;

use super::{Failure, organization::Organization};
use crate::cli::say;

/// List all organizations and their placements.
#[derive(Debug, clap::Args)]
pub(super) struct List {}

impl List {
    pub(super) async fn run(self, connection: &Client) -> Result<(), Failure> {
        for organization in Organization::list(connection).await? {
            let line = format!(
                "{:<48} {:<11}  {}",
                organization.name,
                organization.placement.name(),
                organization.remarks().join("; ")
            );
            say(line.trim_end());
        }
        Ok(())
    }
}
