//! `tenantry tenant allow` and `disallow`: exceptions to the plan of one organization.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use pg::Client;
use serde_json::json;

use super::{
    Failure,
    organization::Organization,
    placed_organization::{PlacedOrganization, change_in_place},
};
use crate::{
    audit::Action,
    cli::{
        catalogue::{Feature, Limit, limit_sql, print_changes},
        owner_connection::Owner,
    },
    clock::Clock,
    plan::ENTITLEMENTS,
    tenancy::Change,
};

/// Set an exception to the plan of an organization. Servers apply it at once.
#[derive(Debug, clap::Args)]
pub(super) struct Allow {
    /// The organization's slug or id.
    organization: String,

    /// The feature's key, for example projects.
    feature: String,

    /// A number, unlimited or off; on or off for a flag.
    limit: Limit,

    /// The exception ends at 00:00 UTC of this day, for example 2027-01-01. Without it, the
    /// exception has no end.
    #[arg(long, value_name = "DATE")]
    until: Option<NaiveDate>,

    /// Why. The organization's audit log shows it.
    #[arg(long)]
    reason: Option<String>,
}

/// End an exception: the organization may use what its plan allows.
#[derive(Debug, clap::Args)]
pub(super) struct Disallow {
    /// The organization's slug or id.
    organization: String,

    /// The feature's key, for example projects.
    feature: String,
}

impl Allow {
    pub(super) async fn run(self, owner: &Owner, control: &mut Client) -> Result<(), Failure> {
        let until = self.until.map(|day| day.and_time(NaiveTime::MIN).and_utc());
        if until.is_some_and(|until| until <= Clock::system().now()) {
            return Err(Failure::new("--until is in the past. Give a day in the future."));
        }
        let feature = Feature::get(control, &self.feature).await?;
        let (limit, enabled) = self.limit.columns(&feature)?;
        let row = Row { limit, enabled, until, reason: self.reason };
        set(owner, control, &self.organization, (&feature, Some(&row))).await
    }
}

impl Disallow {
    pub(super) async fn run(self, owner: &Owner, control: &mut Client) -> Result<(), Failure> {
        let feature = Feature::get(control, &self.feature).await?;
        set(owner, control, &self.organization, (&feature, None)).await
    }
}

/// An exception to write.
struct Row {
    limit: Option<i64>,
    enabled: bool,
    until: Option<DateTime<Utc>>,
    reason: Option<String>,
}

/// The exception as text, its limit, end and reason.
type Known = (String, String, Option<DateTime<Utc>>, Option<String>);

/// Writes or deletes an exception where the organization lives, and prints the difference.
async fn set(
    owner: &Owner,
    control: &mut Client,
    organization: &str,
    (feature, row): (&Feature, Option<&Row>),
) -> Result<(), Failure> {
    let change = Change::new(ENTITLEMENTS);
    let changed = change_in_place(owner, control, organization, change, async |placed| {
        if let Some(name) = placed.organization.placement.database()
            && Feature::find(placed.connection, &feature.key).await?.is_none()
        {
            let key = &feature.key;
            return Err(Failure::new(format!(
                "the database {name} lacks the feature {key}. Run `tenantry migrate`."
            )));
        }
        write(&placed, feature, row).await
    });
    let (before, after) = changed.await?;
    let line = |known: Option<Known>| known.map(|(line, ..)| line).into_iter().collect::<Vec<_>>();
    print_changes(&line(before), &line(after));
    Ok(())
}

/// Writes in the organization's database. Returns the exception before and after.
async fn write(
    placed: &PlacedOrganization<'_>,
    feature: &Feature,
    row: Option<&Row>,
) -> Result<(Option<Known>, Option<Known>), Failure> {
    let PlacedOrganization { organization, connection, .. } = placed;
    // Takes the organization's lock.
    let billing = placed.table("billing.organization_billing");
    let sql = format!("SELECT FROM {billing} WHERE organization_id = $1 FOR NO KEY UPDATE");
    connection.execute(&sql, &[&organization.id]).await?;
    let exceptions = placed.table("billing.organization_features");
    let before = find(placed, &exceptions, feature).await?;
    match row {
        None => {
            let sql =
                format!("DELETE FROM {exceptions} WHERE organization_id = $1 AND feature = $2");
            connection.execute(&sql, &[&organization.id, &feature.key]).await?;
        }
        Some(Row { limit, enabled, until, reason }) => {
            let sql = format!(
                "INSERT INTO {exceptions} (organization_id, feature, limit_value, enabled, valid_until, reason)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (organization_id, feature) DO UPDATE
                     SET limit_value = $3, enabled = $4, valid_until = $5, reason = $6"
            );
            connection
                .execute(&sql, &[&organization.id, &feature.key, limit, enabled, until, reason])
                .await?;
        }
    }
    let after = find(placed, &exceptions, feature).await?;
    if before != after {
        record(placed, feature, row.is_some(), before.as_ref(), after.as_ref()).await?;
    }
    Ok((before, after))
}

/// An exception as text. `$1` is the first word.
fn line_sql() -> String {
    format!(
        "concat_ws(' ', $1::text, o.feature, {}, 'until ' || to_char(o.valid_until, 'YYYY-MM-DD'), '(' || o.reason || ')')",
        limit_sql("f", "o")
    )
}

/// The exceptions of an organization as lines of text, also those that have ended by time.
pub(super) async fn list(
    connection: &Client,
    organization: &Organization,
) -> pg::Result<Vec<String>> {
    let exceptions =
        organization.placement.table_named("billing.organization_features", organization.id);
    let sql = format!(
        "SELECT {} FROM {exceptions} o JOIN billing.features f USING (feature)
         WHERE o.organization_id = $2 ORDER BY f.position, f.feature",
        line_sql()
    );
    connection.query(&sql, &[&"exception", &organization.id]).await
}

async fn find(
    placed: &PlacedOrganization<'_>,
    exceptions: &str,
    feature: &Feature,
) -> Result<Option<Known>, Failure> {
    let PlacedOrganization { organization, connection, .. } = placed;
    let limit = limit_sql("f", "o");
    let sql = format!(
        "SELECT {}, {limit}, o.valid_until, o.reason
         FROM {exceptions} o JOIN billing.features f USING (feature) WHERE o.organization_id = $2 AND o.feature = $3",
        line_sql()
    );
    Ok(connection.query_opt(&sql, &[&organization.name, &organization.id, &feature.key]).await?)
}

async fn record(
    placed: &PlacedOrganization<'_>,
    feature: &Feature,
    is_allowed: bool,
    before: Option<&Known>,
    after: Option<&Known>,
) -> pg::Result<()> {
    let command = if is_allowed { "tenantry tenant allow" } else { "tenantry tenant disallow" };
    let value = |known: Option<&Known>| known.map(|(_, limit, ..)| limit.clone());
    let metadata = json!({
        "feature": feature.key,
        "old_value": value(before),
        "value": value(after),
        "valid_until": after.and_then(|(.., until, _)| *until),
        "reason": after.and_then(|(.., reason)| reason.clone()),
    });
    placed.record((command, Action::BillingEntitlementChanged), metadata).await
}
