//! `tenantry billing`: replays stored Stripe events, and shows and repeats changes of seats.

use clap::Subcommand;

use super::{Failure, counted, runtime, say};
use crate::{
    billing::{self, Outcome},
    clock::Clock,
    config::{BusinessConfig, DatabaseConfig},
    organization,
    outbox::{self, Kind},
    seats::{self, SeatsMode},
    tenancy::{self, Databases, Reason, Settings, SystemSession, open_system},
};

/// Process stored Stripe events again, and follow what is sent to Stripe.
#[derive(Debug, clap::Args)]
pub(super) struct Billing {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Args)]
struct Access {
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    business: BusinessConfig,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Process a stored Stripe event again. An event that is outdated changes nothing.
    Replay {
        /// Stripe's id of the event: evt_…
        event: String,
        #[command(flatten)]
        access: Access,
    },
    /// Show the seats of an organization, and why the last change at Stripe failed.
    Seats {
        /// The organization's slug or id.
        organization: String,

        /// Have a server send the size of the team to Stripe again.
        #[arg(long)]
        retry: bool,
        #[command(flatten)]
        access: Access,
    },
}

impl Billing {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (Action::Replay { access, .. } | Action::Seats { access, .. }) = &self.action;
        let options = access.database.options()?;
        let settings = access.business.settings_for_maintenance(Clock::system())?;
        if settings.area::<billing::Settings>()?.stripe.is_none() {
            return Err(Failure::new(
                "BILLING_PROVIDER is not stripe. Set it to stripe, with the keys of the servers.",
            ));
        }
        runtime()?.block_on(async {
            let databases = Databases::shared(&options)?;
            match &self.action {
                Action::Replay { event, .. } => replay(&databases, &settings, event).await,
                Action::Seats { organization, retry, .. } => {
                    show_seats(&databases, &settings, organization, *retry).await
                }
            }
        })
    }
}

async fn replay(databases: &Databases, settings: &Settings, event: &str) -> Result<(), Failure> {
    let outcome = billing::apply(databases, settings, event, Reason::BillingReplay).await;
    // The process ends before the background publisher would run.
    databases.change_feed().flush().await?;
    match outcome {
        Ok(Outcome::Applied(organization)) => {
            say(format!("{event} was applied to the organization {organization}"));
            Ok(())
        }
        Ok(Outcome::Nothing(why)) => {
            say(format!("{event} changed nothing: {why}"));
            Ok(())
        }
        Ok(Outcome::Problem(problem)) => {
            Err(Failure::new(format!("{event} needs an operator: {problem}")))
        }
        Err(error) => Err(Failure::new(format!("{event} was not applied: {}", error.cause()))),
    }
}

/// Prints the seats at Stripe as last reported, the size of the team, and the state of the last
/// change.
async fn show_seats(
    databases: &Databases,
    settings: &Settings,
    name: &str,
    retry: bool,
) -> Result<(), Failure> {
    let open = |organization, access| {
        open_system(databases, settings, organization, Reason::Seats, access)
    };
    let reading = open(None, tenancy::Access::Read).await?;
    let unknown = || Failure::new(format!("there is no organization {name}"));
    let id = organization::find_by_name(&reading, name).await?.ok_or_else(unknown)?;
    if retry && settings.area::<seats::Settings>()?.mode != Some(SeatsMode::Sync) {
        return Err(Failure::new("BILLING_SEATS is not sync: owners buy seats"));
    }
    let access = if retry { tenancy::Access::Write } else { tenancy::Access::Read };
    let session = open(Some(id), access).await?;
    let Some(paid) = billing::paid_seats(&session).await? else {
        return Err(Failure::new(format!("{name} has no subscription per seat")));
    };
    let team = seats::team_size(&session).await?;
    say(format!("{paid} paid, {team} used by members and open invitations"));
    if let Some(state) = last_change(&session).await? {
        say(state);
    }
    if retry {
        seats::follow(&session).await?;
        session.commit().await?;
        say("a server sends the size of the team to Stripe");
    }
    Ok(())
}

/// The state of the last change at Stripe. Old ones are deleted.
async fn last_change(session: &SystemSession) -> Result<Option<String>, Failure> {
    let Some(row) = outbox::last(session, Kind::StripeSeats).await? else { return Ok(None) };
    let attempts = counted(usize::try_from(row.attempts).unwrap_or_default(), "attempt");
    let at = row.updated_at.format("%Y-%m-%d %H:%M UTC");
    Ok(Some(match (row.processed_at, row.error) {
        (None, Some(error)) => format!("the last change waits after {attempts}: {error}"),
        (None, None) => format!("the last change is being made, {attempts}"),
        (Some(_), Some(error)) => format!("the last change ended {at} after {attempts}: {error}"),
        (Some(_), None) => format!("the last change was made {at}"),
    }))
}
