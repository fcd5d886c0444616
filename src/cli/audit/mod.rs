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
