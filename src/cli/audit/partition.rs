//! `tenantry audit partition`

use super::{Failure, Owner};
use crate::cli::say;

/// Hold the audit log in a partition a month, and make those of the next months. Safe while servers run, and at any time again:
/// call it every month, for example from cron.
#[derive(Debug, clap::Args)]
pub(super) struct Partition {
    #[command(flatten)]
    owner: Owner,
}

impl Partition {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut connection = self.owner.connect().await?;
        let report =
            migration::audit_partitions::ensure(&mut connection, |step| eprintln!("{step}"))
                .await
                .map_err(|error| {
                    Failure::new(format!("the audit log was not partitioned: {error}"))
                })?;
        if report.converted {
            say("The audit log is partitioned by month.");
        }
        for partition in &report.created {
            say(format!("made {partition}"));
        }
        if !report.converted && report.created.is_empty() {
            say("All partitions are there.");
        }
        Ok(())
    }
}
