//! `tenantry plan`
#![expect(
    clippy::disallowed_types,
    reason = "the catalogue is the same for all tenants, and edited by its owner"
)]

use clap::Subcommand;
use sqlx::{Connection, Executor, PgConnection, Row};

use super::{Failure, runtime, say};
use crate::{config::parse_database_url, plan::Feature};

/// Look at the catalogue of plans, or edit it. Servers obey with their next request.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(subcommand)]
    action: Action,

    /// PostgreSQL as a role that may act as tenantry_owner.
    #[arg(
        long,
        env = "MIGRATION_DATABASE_URL",
        value_name = "MIGRATION_DATABASE_URL",
        hide_env_values = true,
        global = true
    )]
    migration_database_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every plan with what it allows.
    List,
    /// Set what a plan allows of a feature.
    Set {
        /// The plan's key, for example pro.
        plan: String,
        /// The feature's key, for example projects.
        #[arg(value_parser = parse_feature)]
        feature: Feature,
        /// A number, or unlimited, or off.
        #[arg(value_parser = parse_limit)]
        limit: Limit,
    },
}

/// What a plan is to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    AtMost(i64),
    Unlimited,
    Off,
}

impl Plan {
    pub(super) fn run(self) -> Result<(), Failure> {
        let url = self.migration_database_url.as_deref().ok_or_else(|| {
            Failure::new(
                "MIGRATION_DATABASE_URL is not set: it must be PostgreSQL as a role that may act as tenantry_owner",
            )
        })?;
        let options = parse_database_url("MIGRATION_DATABASE_URL", url).map_err(Failure::new)?;
        runtime()?.block_on(async {
            let mut connection =
                PgConnection::connect_with(&options).await.map_err(Failure::new)?;
            connection.execute("SET ROLE tenantry_owner").await.map_err(Failure::new)?;
            match self.action {
                Action::List => list(&mut connection).await,
                Action::Set { plan, feature, limit } => {
                    set(&mut connection, &plan, feature, limit).await
                }
            }
        })
    }
}

async fn list(connection: &mut PgConnection) -> Result<(), Failure> {
    let rows = sqlx::query(
        "SELECT p.plan, f.feature,
                CASE WHEN NOT f.enabled THEN 'off' ELSE coalesce(f.limit_value::text, 'unlimited') END AS allowed
         FROM billing.plans p LEFT JOIN billing.plan_features f ON f.plan = p.plan
         ORDER BY p.position, f.feature",
    )
    .fetch_all(connection)
    .await
    .map_err(Failure::new)?;
    for row in rows {
        let plan: String = row.get("plan");
        let feature: Option<String> = row.get("feature");
        let allowed: Option<String> = row.get("allowed");
        let (feature, allowed) = (feature.unwrap_or_default(), allowed.unwrap_or_default());
        say(format!("{plan:<12} {feature:<20} {allowed:>12}"));
    }
    Ok(())
}

async fn set(
    connection: &mut PgConnection,
    plan: &str,
    feature: Feature,
    limit: Limit,
) -> Result<(), Failure> {
    let (limit, enabled) = match limit {
        Limit::AtMost(limit) => (Some(limit), true),
        Limit::Unlimited => (None, true),
        Limit::Off => (None, false),
    };
    let changed = sqlx::query(
        "INSERT INTO billing.plan_features (plan, feature, limit_value, enabled)
         SELECT plan, $2, $3, $4 FROM billing.plans WHERE plan = $1
         ON CONFLICT (plan, feature) DO UPDATE SET limit_value = $3, enabled = $4",
    )
    .bind(plan)
    .bind(feature.key())
    .bind(limit)
    .bind(enabled)
    .execute(&mut *connection)
    .await
    .map_err(Failure::new)?;
    if changed.rows_affected() == 0 {
        return Err(Failure::new(format!("there is no plan {plan}: see tenantry plan list")));
    }
    list(connection).await
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
            _ => Err("must be a whole number from 0, or unlimited, or off".to_owned()),
        },
    }
}
