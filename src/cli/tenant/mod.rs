//! `tenantry tenant`: moves, verifies, exports, restores and suspends single organizations,
//! and makes exceptions to their plans.

mod allow;
mod export;
mod import;
mod list;
mod locks;
mod move_organization;
mod organization;
mod placed_organization;
mod placement;
mod prune;
mod show;
mod signature;
mod structure;
mod suspend;
mod table_rows;
mod verify;
mod verify_dedicated;

use clap::Subcommand;

use super::{Failure, owner_connection::Owner, runtime};

pub(super) use locks::exclude_moves;
pub(in crate::cli) use move_organization::copy_users;
pub(super) use organization::{audit_logs, record, schemas};

/// List, move, verify, export, import and suspend organizations, and make exceptions to their
/// plans.
#[derive(Debug, clap::Args)]
pub(super) struct Tenant {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    owner: Owner,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::List),
    Show(show::Show),
    Move(move_organization::Move),
    Verify(verify::Verify),
    Export(export::Export),
    Import(import::Import),
    Prune(prune::Prune),
    Allow(allow::Allow),
    Disallow(allow::Disallow),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
}

impl Tenant {
    pub(super) fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(async {
            let mut connection = self.owner.connect().await?;
            organization::check_database(&connection).await?;
            connection.batch(organization::SAME_TEXT).await?;
            match self.action {
                Action::List(command) => command.run(&connection).await,
                Action::Show(command) => command.run(&self.owner, &connection).await,
                Action::Move(command) => command.run(&self.owner, &mut connection).await,
                Action::Verify(command) => command.run(&self.owner, &mut connection).await,
                Action::Export(command) => command.run(&self.owner, &mut connection).await,
                Action::Import(command) => command.run(&mut connection).await,
                Action::Prune(command) => command.run(&self.owner, &mut connection).await,
                Action::Allow(command) => command.run(&self.owner, &mut connection).await,
                Action::Disallow(command) => command.run(&self.owner, &mut connection).await,
                Action::Suspend(command) => command.run(&self.owner, &mut connection).await,
                Action::Resume(command) => command.run(&self.owner, &mut connection).await,
            }
        })
    }
}
