//! The catalogue of features and plans, for the commands that edit it: limits as text, the report
//! of what a command changed, and the copies in dedicated databases.

use std::{collections::BTreeSet, fmt, str::FromStr};

use migration::dedicated;
use pg::Client;

use super::{
    Failure,
    owner_connection::{Owner, in_use},
    say,
};
use crate::{
    graphql::BigInt,
    plan::ENTITLEMENTS,
    tenancy::{Change, ChangeFeed},
};

/// What is allowed of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    AtMost(i64),
    Unlimited,
    On,
    Off,
}

impl Limit {
    /// The values of the columns `limit_value` and `enabled`, if the limit fits a feature of this
    /// kind.
    pub(super) fn columns(self, feature: &Feature) -> Result<(Option<i64>, bool), Failure> {
        let is_flag = feature.kind == "flag";
        match self {
            Self::Off => Ok((None, false)),
            Self::On if is_flag => Ok((None, true)),
            Self::Unlimited if !is_flag => Ok((None, true)),
            Self::AtMost(limit) if !is_flag => Ok((Some(limit), true)),
            _ if is_flag => Err(Failure::new(format!("{} is a flag: use on or off", feature.key))),
            _ => Err(Failure::new(format!(
                "{} is a {}: use a number, unlimited or off",
                feature.key, feature.kind
            ))),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            number => match number.parse() {
                Ok(limit) if (0..=BigInt::MAX).contains(&limit) => Ok(Self::AtMost(limit)),
                _ => Err("must be a whole number from 0, unlimited, on or off".to_owned()),
            },
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => limit.fmt(text),
            Self::Unlimited => text.write_str("unlimited"),
            Self::On => text.write_str("on"),
            Self::Off => text.write_str("off"),
        }
    }
}

/// A row as the text of a [`Limit`], in SQL. `feature` and `row` are names of tables.
pub(super) fn limit_sql(feature: &str, row: &str) -> String {
    format!(
        "CASE WHEN NOT {row}.enabled THEN 'off' WHEN {feature}.kind = 'flag' THEN 'on'
              ELSE coalesce({row}.limit_value::text, 'unlimited') END"
    )
}

/// A feature as the catalogue has it.
#[derive(Debug)]
pub(super) struct Feature {
    pub(super) key: String,
    pub(super) kind: String,
    pub(super) period: Option<String>,
}

impl Feature {
    pub(super) async fn find(connection: &Client, key: &str) -> Result<Option<Self>, Failure> {
        let sql = "SELECT kind::text, period::text FROM billing.features WHERE feature = $1";
        let row: Option<(String, Option<String>)> = connection.query_opt(sql, &[&key]).await?;
        Ok(row.map(|(kind, period)| Self { key: key.to_owned(), kind, period }))
    }

    pub(super) async fn get(connection: &Client, key: &str) -> Result<Self, Failure> {
        Self::find(connection, key).await?.ok_or_else(|| {
            Failure::new(format!(
                "there is no feature {key}. `tenantry feature list` lists the features."
            ))
        })
    }

    /// Refuses another kind or period: rows and usage of the feature depend on them.
    pub(super) fn require(&self, kind: &str, period: Option<&str>) -> Result<(), Failure> {
        if self.kind == kind && self.period.as_deref() == period {
            return Ok(());
        }
        let period = self.period.as_ref().map(|period| format!(" by {period}")).unwrap_or_default();
        Err(Failure::new(format!(
            "the feature {} is a {}{period}, which cannot change. Add another feature.",
            self.key, self.kind
        )))
    }
}

/// Sets what a plan allows of a feature.
pub(super) async fn set_limit(
    connection: &Client,
    plan: &str,
    feature: &str,
    limit: Limit,
) -> Result<(), Failure> {
    let (limit, enabled) = limit.columns(&Feature::get(connection, feature).await?)?;
    let sql = "INSERT INTO billing.plan_features AS f (plan, feature, limit_value, enabled) VALUES ($1, $2, $3, $4)
             ON CONFLICT (plan, feature) DO UPDATE SET limit_value = $3, enabled = $4
             WHERE (f.limit_value, f.enabled) IS DISTINCT FROM ($3, $4)";
    connection.execute(sql, &[&plan, &feature, &limit, &enabled]).await?;
    Ok(())
}

/// Archives a plan, unless it is archived.
pub(super) async fn archive(connection: &Client, plan: &str) -> pg::Result<()> {
    let sql =
        "UPDATE billing.plans SET archived_at = now() WHERE plan = $1 AND archived_at IS NULL";
    connection.execute(sql, &[&plan]).await?;
    Ok(())
}

pub(super) fn unknown_plan(plan: &str) -> Failure {
    Failure::new(format!("there is no plan {plan}. `tenantry plan list` lists the plans."))
}

/// Makes a plan the only default plan.
pub(super) async fn make_default(connection: &Client, plan: &str) -> pg::Result<()> {
    // Two statements: at no time are there two.
    let sql = "UPDATE billing.plans SET is_default = false WHERE is_default AND plan <> $1";
    connection.execute(sql, &[&plan]).await?;
    let sql = "UPDATE billing.plans SET is_default = true WHERE plan = $1 AND NOT is_default";
    connection.execute(sql, &[&plan]).await?;
    Ok(())
}

/// The catalogue as lines of text.
async fn lines(connection: &Client) -> pg::Result<Vec<String>> {
    let sql = format!(
        "SELECT line FROM (
             SELECT 1 AS part, position, 0 AS of_feature,
                    concat_ws(' ', 'feature', feature, kind, period, 'name=' || name, 'position=' || position, 'unit=' || unit,
                              'description=' || description) AS line
             FROM billing.features
             UNION ALL
             SELECT 2, position, 0,
                    concat_ws(' ', 'plan', plan, 'name=' || name, 'position=' || position, CASE WHEN is_default THEN 'default' END,
                              CASE WHEN archived_at IS NOT NULL THEN 'archived' END)
             FROM billing.plans
             UNION ALL
             SELECT 3, p.position, f.position, concat_ws(' ', 'limit', p.plan, f.feature, {})
             FROM billing.plans p JOIN billing.plan_features l USING (plan) JOIN billing.features f USING (feature)
             UNION ALL
             SELECT 4, position, 0,
                    concat_ws(' ', 'price', plan, stripe_price_id, interval, unit_amount, currency, CASE WHEN per_seat THEN 'per seat' END,
                              CASE WHEN NOT for_sale THEN 'retired' END)
             FROM billing.plan_prices JOIN billing.plans USING (plan)
         ) lines ORDER BY part, position, of_feature, line",
        limit_sql("f", "l")
    );
    connection.query(&sql, &[]).await
}

/// Runs `edit` in one transaction, prints what it changed, and copies the catalogue to the
/// dedicated databases. Edits wait for each other.
pub(super) async fn edit(
    owner: &Owner,
    connection: &mut Client,
    edit: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let transaction = connection.begin().await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock(hashtextextended('tenantry catalogue', 0))", &[])
        .await?;
    let before = lines(&transaction).await?;
    edit(&transaction).await?;
    let after = lines(&transaction).await?;
    transaction.commit().await?;
    print_changes(&before, &after);
    let copied = copy_catalogue(owner, connection).await;
    // Subscribers compare when all databases have the new catalogue.
    publish(connection).await?;
    copied
}

/// Publishes a change of the catalogue to the servers, whose subscribers compare then.
pub(super) async fn publish(control: &Client) -> Result<(), Failure> {
    let (channel, notice) = ChangeFeed::notification(None, Change::new(ENTITLEMENTS))?;
    control.execute("SELECT pg_notify($1, $2)", &[&channel, &notice]).await?;
    Ok(())
}

/// Prints the lines that have changed.
pub(super) fn print_changes(before: &[String], after: &[String]) {
    if before == after {
        say("nothing changed");
    }
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    for line in before.iter().filter(|line| !new.contains(line)) {
        say(format!("- {line}"));
    }
    for line in after.iter().filter(|line| !old.contains(line)) {
        say(format!("+ {line}"));
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
