//! `tenantry audit`: export, partitions and retention of the audit log.

mod export;
mod partition;
mod prune;

use clap::Subcommand;

use super::{Failure, owner_connection::Owner, runtime};

/// Export, partition and prune the audit log.
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Export(Box<export::Export>),
    Partition(partition::Partition),
    Prune(prune::Prune),
}

/// Fails if the command did not succeed in some dedicated databases.
fn complete(failed: &[String]) -> Result<(), Failure> {
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the command failed in the databases {}. Fix the error above and run it again.",
        failed.join(", ")
    )))
}

impl Audit {
    pub(super) fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(async {
            match self.action {
                Action::Export(command) => command.run().await,
                Action::Partition(command) => command.run().await,
                Action::Prune(command) => command.run().await,
            }
        })
    }
}
