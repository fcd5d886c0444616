//! `tenantry billing`: replays stored Stripe events.

use clap::Subcommand;

use super::{Failure, runtime, say};
use crate::{
    billing::{self, Outcome},
    clock::Clock,
    config::{BusinessConfig, DatabaseConfig},
    tenancy::{Databases, Reason},
};

/// Process stored Stripe events again.
#[derive(Debug, clap::Args)]
pub(super) struct Billing {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Process a stored Stripe event again. An event that is outdated changes nothing.
    Replay {
        /// Stripe's id of the event: evt_…
        event: String,
        #[command(flatten)]
        database: DatabaseConfig,
        #[command(flatten)]
        business: BusinessConfig,
    },
}

impl Billing {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Action::Replay { event, database, business } = self.action;
        let options = database.options().map_err(Failure::new)?;
        let settings = business.settings_for_maintenance(Clock::system()).map_err(Failure::new)?;
        if settings.area::<billing::Settings>()?.stripe.is_none() {
            return Err(Failure::new(
                "BILLING_PROVIDER is not stripe, so there are no events to replay",
            ));
        }
        runtime()?.block_on(async {
            let databases = Databases::shared(&options)?;
            let outcome =
                billing::apply(&databases, &settings, &event, Reason::BillingReplay).await;
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
                Err(error) => {
                    Err(Failure::new(format!("{event} was not applied: {}", error.cause())))
                }
            }
        })
    }
}
