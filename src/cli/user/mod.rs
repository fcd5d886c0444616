//! `tenantry user`: erases and suspends users.

mod erase;
mod personal_data;
mod suspend;

use clap::Subcommand;

use super::{Failure, owner_connection::Owner, runtime, say};

/// Erase, suspend and resume users.
#[derive(Debug, clap::Args)]
pub(super) struct User {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    owner: Owner,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Erase a user permanently in all databases: identities, memberships, name and address, also
    /// in audit logs. Refused for the last owner of an organization.
    Erase {
        /// The user's e-mail address or id.
        user: String,
    },
    /// Refuse a user's requests from the next one on, in all organizations.
    Suspend {
        /// The user's e-mail address or id.
        user: String,
    },
    /// Accept the requests of a suspended user again.
    Resume {
        /// The user's e-mail address or id.
        user: String,
    },
}

impl User {
    pub(super) fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(async {
            let user = match self.action {
                Action::Suspend { user } => return suspend::set(&self.owner, &user, true).await,
                Action::Resume { user } => return suspend::set(&self.owner, &user, false).await,
                Action::Erase { user } => user,
            };
            let memberships = erase::erase(&self.owner, &user).await?;
            say(format!("erased {user}; memberships ended: {}", memberships.len()));
            for membership in memberships {
                say(format!("  {} ({})", membership.slug, membership.role));
            }
            Ok(())
        })
    }
}
