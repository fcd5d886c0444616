//! `tenantry audit`

mod export;
mod partition;
mod prune;

use clap::Subcommand;

use super::{Failure, owner::Owner, runtime};

/// Look after the audit log.
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

/// What was done everywhere but in these databases of organizations' own is to be done again.
fn complete(failed: &[String]) -> Result<(), Failure> {
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "it was not done in the databases {}: mend what failed, and run the same again",
        failed.join(", ")
    )))
}
