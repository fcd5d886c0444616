//! `tenantry audit partition`: creates the monthly partitions of the audit log ahead of time.

use pg::Client;

use super::{Failure, Owner};
use crate::cli::say;

/// Create the partitions of the audit log for the next months. Safe to repeat, also while servers
/// run. Servers do the same when they start, and every six hours.
#[derive(Debug, clap::Args)]
pub(super) struct Partition {
    #[command(flatten)]
    owner: Owner,
}

impl Partition {
    pub(super) async fn run(self) -> Result<(), Failure> {
        self.owner.in_all(partition).await
    }
}

async fn partition(connection: &mut Client, place: &str) -> Result<(), Failure> {
    let created: Vec<String> =
        connection.query("SELECT audit.ensure_partitions()", &[]).await.map_err(|error| {
            Failure::new(format!("the partitions were not created: {}", error.explained()))
        })?;
    for partition in &created {
        say(format!("created {partition}{place}"));
    }
    if created.is_empty() {
        say(format!("All partitions{place} exist."));
    }
    Ok(())
}
