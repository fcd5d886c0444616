//! `tenantry plan`: lists and edits the catalogue of plans.

use std::path::PathBuf;

use clap::Subcommand;
use pg::Client;

use super::{
    Failure,
    catalogue::{self, Limit, limit_sql, make_default, set_limit, unknown_plan},
    feature::{parse_key, parse_name},
    owner_connection::Owner,
    plan_file, plan_price, runtime, say,
};

/// List, add and archive plans, and set their limits and Stripe prices. Servers apply a change
/// within one second.
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
    #[command(flatten)]
    Edit(Edit),
    /// Write the catalogue of features, plans and Stripe prices to a JSON file.
    Export {
        /// The file. - is the standard output.
        file: PathBuf,
    },
    /// Make the catalogue what a JSON file says. Features and plans that the file does not name are
    /// kept, after those that it names, and so are prices.
    Import {
        /// The file. - is the standard input.
        file: PathBuf,

        /// Retire the prices that the file does not name, of each plan for which it has a list of
        /// prices. Subscriptions at them have the plan.
        #[arg(long)]
        retire: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Edit {
    Add(Add),
    /// Set the limit of a feature in a plan.
    Set {
        /// The plan's key, for example pro.
        plan: String,
        /// The feature's key, for example projects.
        feature: String,
        /// A number, unlimited or off; on or off for a flag.
        limit: Limit,
    },
    /// Offer a plan no longer. Organizations that have it keep it.
    Archive {
        /// The plan's key, for example pro.
        plan: String,
    },
    Price(plan_price::Price),
}

/// Add a plan, or change its name and position and offer it again.
#[derive(Debug, clap::Args)]
struct Add {
    /// The plan's key: lower-case letters, digits and underscores, for example team.
    #[arg(value_parser = parse_key)]
    plan: String,

    /// The display name.
    #[arg(value_parser = parse_name)]
    name: String,

    /// The plan whose limits a new plan starts with. Without it, the plan includes no feature.
    #[arg(long, value_name = "PLAN")]
    like: Option<String>,

    /// The position in the catalogue, cheapest first. The plans from there on move by one. A new
    /// plan without a position is the last one.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=1_000_000))]
    position: Option<i32>,

    /// Make it the default plan, with which organizations start, and which takes effect when a
    /// subscription ends.
    #[arg(long)]
    default: bool,
}

impl Plan {
    pub(super) fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(async {
            let mut connection = self.owner.connect().await?;
            match self.action {
                Action::List => list(&connection).await,
                Action::Export { file } => plan_file::export(&connection, &file).await,
                Action::Edit(edit) => {
                    catalogue::edit(&self.owner, &mut connection, async |transaction| {
                        edit.run(transaction).await
                    })
                    .await
                }
                Action::Import { file, retire } => {
                    let file = plan_file::read(&file)?;
                    catalogue::edit(&self.owner, &mut connection, async |transaction| {
                        file.apply(transaction, retire).await
                    })
                    .await
                }
            }
        })
    }
}

impl Edit {
    async fn run(&self, connection: &Client) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(connection).await,
            Self::Price(price) => price.run(connection).await,
            Self::Archive { plan } => archive(connection, plan).await,
            Self::Set { plan, feature, limit } => {
                require(connection, plan).await?;
                set_limit(connection, plan, feature, *limit).await
            }
        }
    }
}

/// Plan, feature and its limit.
type PlanRow = (String, Option<String>, Option<String>);

async fn list(connection: &Client) -> Result<(), Failure> {
    let sql = format!(
        "SELECT p.plan || CASE WHEN p.archived_at IS NULL THEN '' ELSE ' (archived)' END, f.feature, CASE WHEN f.feature IS NOT NULL THEN {} END
         FROM billing.plans p LEFT JOIN billing.plan_features l USING (plan) LEFT JOIN billing.features f USING (feature)
         ORDER BY p.position, f.position, f.feature",
        limit_sql("f", "l")
    );
    let rows: Vec<PlanRow> = connection.query(&sql, &[]).await?;
    for (plan, feature, allowed) in rows {
        let (feature, allowed) = (feature.unwrap_or_default(), allowed.unwrap_or_default());
        say(format!("{plan:<12} {feature:<20} {allowed:>12}").trim_end());
    }
    plan_price::list(connection).await
}

impl Add {
    async fn run(&self, connection: &Client) -> Result<(), Failure> {
        let exists = exists(connection, &self.plan).await?;
        if let Some(position) = self.position {
            // Makes room, unless the position is free or the plan's own.
            let sql = "UPDATE billing.plans SET position = position + 1 WHERE position >= $1
                AND EXISTS (SELECT FROM billing.plans WHERE position = $1 AND plan <> $2)";
            connection.execute(sql, &[&position, &self.plan]).await?;
        }
        let sql = "INSERT INTO billing.plans AS p (plan, name, position)
            SELECT $1, $2, coalesce($3, max(position) + 1, 1) FROM billing.plans
            ON CONFLICT (plan) DO UPDATE SET name = $2, position = coalesce($3, p.position), archived_at = NULL
            WHERE (p.name, p.position) IS DISTINCT FROM ($2, coalesce($3, p.position)) OR p.archived_at IS NOT NULL";
        connection.execute(sql, &[&self.plan, &self.name, &self.position]).await?;
        if let Some(like) = self.like.as_ref().filter(|_| !exists) {
            copy_limits(connection, like, &self.plan).await?;
        }
        if self.default {
            make_default(connection, &self.plan).await?;
        }
        Ok(())
    }
}

async fn copy_limits(connection: &Client, from: &str, to: &str) -> Result<(), Failure> {
    require(connection, from).await?;
    let sql = "INSERT INTO billing.plan_features (plan, feature, limit_value, enabled)
        SELECT $2, feature, limit_value, enabled FROM billing.plan_features WHERE plan = $1";
    connection.execute(sql, &[&from, &to]).await?;
    Ok(())
}

async fn archive(connection: &Client, plan: &str) -> Result<(), Failure> {
    let is_default: Option<bool> = connection
        .query_opt("SELECT is_default FROM billing.plans WHERE plan = $1", &[&plan])
        .await?;
    match is_default {
        None => Err(unknown_plan(plan)),
        Some(true) => Err(Failure::new(format!(
            "{plan} is the default plan. Make another plan the default first: tenantry plan add KEY NAME --default"
        ))),
        Some(false) => Ok(catalogue::archive(connection, plan).await?),
    }
}

async fn exists(connection: &Client, plan: &str) -> pg::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM billing.plans WHERE plan = $1)";
    connection.query_one(sql, &[&plan]).await
}

async fn require(connection: &Client, plan: &str) -> Result<(), Failure> {
    if exists(connection, plan).await? { Ok(()) } else { Err(unknown_plan(plan)) }
}
