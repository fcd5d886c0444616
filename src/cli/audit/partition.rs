//! `tenantry audit partition`: partitions the audit log by month, ahead of time.

use migration::audit_partitions::{Report, ensure};
use pg::Client;

use super::{Failure, Owner, failed_databases::complete};
use crate::cli::say;

/// Partition the audit log by month and create the partitions of the next months. Safe to repeat,
/// also while servers run: call it every month, for example from cron.
#[derive(Debug, clap::Args)]
pub(super) struct Partition {
    #[command(flatten)]
    owner: Owner,
}

impl Partition {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut connection = self.owner.connect().await?;
        partition(&mut connection, "").await?;
        let failed = self
            .owner
            .in_each(async |name, connection| {
                partition(connection, &format!(" in the database {name}")).await
            })
            .await?;
        complete(&failed)
    }
}

async fn partition(connection: &mut Client, place: &str) -> Result<(), Failure> {
    let Report { converted, created } =
        ensure(connection, |step| eprintln!("{step}")).await.map_err(|error| {
            Failure::new(format!("the audit log was not partitioned: {}", error.explained()))
        })?;
    if converted {
        say(format!("The audit log{place} is partitioned by month."));
    }
    for partition in &created {
        say(format!("created {partition}{place}"));
    }
    if !converted && created.is_empty() {
        say(format!("All partitions{place} exist."));
    }
    Ok(())
}
