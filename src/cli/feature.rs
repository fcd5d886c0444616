//! `tenantry feature`: lists and adds features of the catalogue.

use clap::{Subcommand, ValueEnum};
use pg::Client;
use serde::{Deserialize, Serialize};

use super::{
    Failure,
    catalogue::{self, Feature as Known},
    owner_connection::Owner,
    runtime, say,
};

/// List and add the features that plans include and limit. Servers apply a change within one
/// second.
#[derive(Debug, clap::Args)]
pub(super) struct Feature {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    owner: Owner,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all features.
    List,
    Add(Add),
}

/// Add a feature, or change its name, unit and description. No plan includes a new feature until
/// tenantry plan set.
#[derive(Debug, clap::Args)]
struct Add {
    /// The feature's key: lower-case letters, digits and underscores, for example sso.
    #[arg(value_parser = parse_key)]
    key: String,

    /// What the feature limits.
    #[arg(long)]
    kind: Kind,

    /// The display name. A new feature without one is named like its key.
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,

    /// The singular of what is counted, for example export.
    #[arg(long)]
    unit: Option<String>,

    /// The description for users.
    #[arg(long)]
    description: Option<String>,

    /// The period in which a meter counts. A new meter without one counts by month.
    #[arg(long)]
    period: Option<Period>,
}

/// What a feature limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Included or not.
    Flag,
    /// A number of things that exist.
    Count,
    /// Usage that is counted in periods.
    Meter,
}

/// The period in which a meter counts.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Period {
    /// The calendar month (UTC).
    Month,
    /// The billing period of the organization.
    BillingPeriod,
}

impl Feature {
    pub(super) fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(async {
            let mut connection = self.owner.connect().await?;
            match self.action {
                Action::List => list(&connection).await,
                Action::Add(add) => {
                    catalogue::edit(&self.owner, &mut connection, async |transaction| {
                        add.run(transaction).await
                    })
                    .await
                }
            }
        })
    }
}

/// Key, kind, period, name and unit.
type Row = (String, String, Option<String>, String, Option<String>);

async fn list(connection: &Client) -> Result<(), Failure> {
    let sql = "SELECT feature, kind::text, period::text, name, unit FROM billing.features ORDER BY position, feature";
    let rows: Vec<Row> = connection.query(sql, &[]).await?;
    for (key, kind, period, name, unit) in rows {
        let period = period.unwrap_or_default();
        let unit = unit.map(|unit| format!(" ({unit})")).unwrap_or_default();
        say(format!("{key:<24} {kind:<6} {period:<15} {name}{unit}"));
    }
    Ok(())
}

impl Add {
    async fn run(self, connection: &Client) -> Result<(), Failure> {
        let (kind, period) = columns(connection, &self.key, self.kind, self.period).await?;
        let sql = "INSERT INTO billing.features AS f (feature, kind, period, name, unit, description, position)
             SELECT $1, $2::text::billing.feature_kind, $3::text::billing.feature_period,
                    coalesce($4, initcap(left($1, 1)) || replace(substr($1, 2), '_', ' ')), $5, $6,
                    coalesce(max(position), 0) + 1 FROM billing.features
             ON CONFLICT (feature) DO UPDATE SET name = coalesce($4, f.name), unit = coalesce($5, f.unit),
                 description = coalesce($6, f.description)
             WHERE (f.name, f.unit, f.description)
                 IS DISTINCT FROM (coalesce($4, f.name), coalesce($5, f.unit), coalesce($6, f.description))";
        connection
            .execute(sql, &[&self.key, &kind, &period, &self.name, &self.unit, &self.description])
            .await?;
        Ok(())
    }
}

/// The values of the columns `kind` and `period`. A period that is not given stays, or is the
/// month.
pub(super) async fn columns(
    connection: &Client,
    key: &str,
    kind: Kind,
    period: Option<Period>,
) -> Result<(String, Option<String>), Failure> {
    if kind != Kind::Meter && period.is_some() {
        let kind = name_of(&kind);
        return Err(Failure::new(format!("{key} is a {kind}. Only a meter has a period.")));
    }
    let known = Known::find(connection, key).await?;
    let period = (kind == Kind::Meter).then(|| match (period, &known) {
        (None, Some(Known { period: Some(period), .. })) => period.clone(),
        (given, _) => name_of(&given.unwrap_or(Period::Month)),
    });
    let kind = name_of(&kind);
    if let Some(known) = known {
        known.require(&kind, period.as_deref())?;
    }
    Ok((kind, period))
}

pub(super) fn name_of(value: &impl ValueEnum) -> String {
    let name = value.to_possible_value().map(|value| value.get_name().replace('-', "_"));
    name.unwrap_or_default()
}

/// Checks the key of a feature or a plan.
pub(super) fn parse_key(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if begins && bytes.all(is_word) && text.len() <= 63 {
        Ok(text.to_owned())
    } else {
        Err("must be a lower-case letter, then lower-case letters, digits and underscores, at most 63".to_owned())
    }
}

/// Checks the name of a feature or a plan.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.contains('\0') {
        return Err("must not be empty or contain NUL".to_owned());
    }
    Ok(text.to_owned())
}
