//! `tenantry plan`: lists and edits the catalogue of plans, and copies it to dedicated databases.

use clap::Subcommand;
use migration::dedicated;
use pg::Client;

use super::{
    Failure,
    owner_connection::{Owner, in_use},
    plan_price, runtime, say,
};
use crate::plan::Feature;

/// List plans, and set their limits and Stripe prices. Servers apply a change within one second.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    owner: Owner,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all plans and their limits.
    List,
    /// Set the limit of a feature in a plan.
    Set {
        /// The plan's key, for example pro.
        plan: String,
        /// The feature's key, for example projects.
        #[arg(value_parser = parse_feature)]
        feature: Feature,
        /// A number, unlimited, or off.
        #[arg(value_parser = parse_limit)]
        limit: Limit,
    },
    Price(plan_price::Price),
}

/// The limit to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    AtMost(i64),
    Unlimited,
    Off,
}

impl Plan {
    pub(super) fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(async {
            let mut connection = self.owner.connect().await?;
            match self.action {
                Action::List => return list(&connection).await,
                Action::Set { plan, feature, limit } => {
                    set(&connection, &plan, feature, limit).await?;
                }
                Action::Price(price) => price.run(&connection).await?,
            }
            list(&connection).await?;
            copy_catalogue(&self.owner, &mut connection).await
        })
    }
}

/// Copies the catalogue to the dedicated databases.
async fn copy_catalogue(owner: &Owner, control: &mut Client) -> Result<(), Failure> {
    // Serializes concurrent edits, so that the last copy is the newest catalogue.
    control
        .execute("SELECT pg_advisory_lock(hashtextextended('tenantry catalogue', 0))", &[])
        .await?;
    let failed = owner
        .in_each(async |_, connection| {
            dedicated::copy_catalogue(control, connection).await?;
            Ok(())
        })
        .await?;
    let configured = owner.databases()?;
    for name in in_use(control).await? {
        if !configured.iter().any(|database| database.name == name) {
            say(format!(
                "warning: the database {name} is not in MIGRATION_DATABASES and keeps the previous plans"
            ));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the catalogue was changed, but not in the databases {}. Run the command again, or `tenantry migrate`.",
        failed.join(", ")
    )))
}

/// Plan, feature and its limit.
type PlanRow = (String, Option<String>, Option<String>);

async fn list(connection: &Client) -> Result<(), Failure> {
    let rows: Vec<PlanRow> = connection
        .query(
            "SELECT p.plan, f.feature,
                CASE WHEN NOT f.enabled THEN 'off' ELSE coalesce(f.limit_value::text, 'unlimited') END AS allowed
         FROM billing.plans p LEFT JOIN billing.plan_features f ON f.plan = p.plan
         ORDER BY p.position, f.feature",
            &[],
        )
        .await?;
    for (plan, feature, allowed) in rows {
        let (feature, allowed) = (feature.unwrap_or_default(), allowed.unwrap_or_default());
        say(format!("{plan:<12} {feature:<20} {allowed:>12}").trim_end());
    }
    plan_price::list(connection).await
}

async fn set(
    connection: &Client,
    plan: &str,
    feature: Feature,
    limit: Limit,
) -> Result<(), Failure> {
    let (limit, enabled) = match limit {
        Limit::AtMost(limit) => (Some(limit), true),
        Limit::Unlimited => (None, true),
        Limit::Off => (None, false),
    };
    let changed = connection
        .execute(
            "INSERT INTO billing.plan_features (plan, feature, limit_value, enabled)
         SELECT plan, $2, $3, $4 FROM billing.plans WHERE plan = $1
         ON CONFLICT (plan, feature) DO UPDATE SET limit_value = $3, enabled = $4",
            &[&plan, &feature.key(), &limit, &enabled],
        )
        .await
        .map_err(Failure::new)?;
    if changed == 0 {
        return Err(unknown(plan));
    }
    Ok(())
}

fn unknown(plan: &str) -> Failure {
    Failure::new(format!("there is no plan {plan}. `tenantry plan list` lists the plans."))
}

fn parse_feature(text: &str) -> Result<Feature, String> {
    Feature::from_key(text).ok_or_else(|| {
        let keys = Feature::ALL.map(Feature::key);
        format!("must be one of {}", keys.join(", "))
    })
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "unlimited" => Ok(Limit::Unlimited),
        "off" => Ok(Limit::Off),
        number => match number.parse() {
            Ok(limit) if limit >= 0 => Ok(Limit::AtMost(limit)),
            _ => Err("must be a whole number from 0, unlimited, or off".to_owned()),
        },
    }
}
