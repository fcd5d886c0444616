//! `tenantry user`

mod erase;
mod place;
mod suspend;

use clap::Subcommand;

use super::{Failure, owner::Owner, runtime, say};

/// Look after people.
#[derive(Debug, clap::Args)]
pub(super) struct User {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    owner: Owner,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Forget a person for good, in all databases: identities, name and address, also in audit
    /// logs; memberships end. Refused to the last owner of an organization.
    Erase {
        /// The person's e-mail address or id.
        person: String,
    },
    /// Refuse a user's requests from the next one on, in all organizations.
    Suspend {
        /// The user's e-mail address or id.
        user: String,
    },
    /// Let a suspended user in again.
    Resume {
        /// The user's e-mail address or id.
        user: String,
    },
}

impl User {
    pub(super) fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(async {
            let person = match self.action {
                Action::Suspend { user } => return suspend::set(&self.owner, &user, true).await,
                Action::Resume { user } => return suspend::set(&self.owner, &user, false).await,
                Action::Erase { person } => person,
            };
            let seats = erase::erase(&self.owner, &person).await?;
            say(format!("erased {person}; memberships ended: {}", seats.len()));
            for seat in seats {
                say(format!("  {} ({})", seat.slug, seat.role));
            }
            Ok(())
        })
    }
}
