//! `tenantry user`

mod erase;
mod place;

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
    /// Forget a person for good, in all databases: identities, name and address, also in audit logs; memberships end. Refused to
    /// the last owner of an organization.
    Erase {
        /// The person's e-mail address or id.
        person: String,
    },
}

impl User {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Action::Erase { person } = self.action;
        runtime()?.block_on(async {
            let seats = erase::erase(&self.owner, &person).await?;
            say(format!("erased {person}; memberships ended: {}", seats.len()));
            for seat in seats {
                say(format!("  {} ({})", seat.slug, seat.role));
            }
            Ok(())
        })
    }
}
