//! `tenantry plan price`: the Stripe prices of plans. A price that was known stays known, so that
//! subscriptions at it keep their plan.

use clap::ValueEnum;
use pg::Client;
use serde::{Deserialize, Serialize};

use super::{Failure, catalogue::unknown_plan, feature::name_of, say};

/// Add a Stripe price of a plan, or retire one. A new price for sale replaces the one with the same
/// interval and currency: existing subscriptions at it keep the plan. For a known price, values
/// that are not given stay.
#[derive(Debug, clap::Args)]
pub(super) struct Price {
    /// The plan's key, for example pro.
    plan: String,

    /// Stripe's id of the price (price_…).
    #[arg(value_parser = parse_price)]
    price: String,

    /// How often the price is paid: month, unless given.
    #[arg(long)]
    interval: Option<Interval>,

    /// The amount in the smallest unit of the currency, for example cents. Shown to clients; Stripe
    /// decides what is charged.
    #[arg(long, requires = "currency", value_parser = clap::value_parser!(i32).range(0..))]
    amount: Option<i32>,

    /// The currency, for example usd.
    #[arg(long, value_parser = parse_currency)]
    currency: Option<String>,

    /// The price is for each member and open invitation.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    per_seat: Option<bool>,

    /// Do not sell the price, or no longer. Subscriptions at it have the plan.
    #[arg(long)]
    retire: bool,

    /// Move the price from another plan. A subscription at it follows with its next event.
    #[arg(long = "move")]
    moves: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Interval {
    Month,
    Year,
}

impl Price {
    /// Changes the catalogue, in one statement.
    pub(super) async fn run(&self, connection: &Client) -> Result<(), Failure> {
        if !self.moves {
            require_plan(connection, &self.price, &self.plan).await?;
        }
        let interval = self.interval.as_ref().map(name_of);
        let sql = "WITH terms AS (
                SELECT p.plan, coalesce($3, old.interval, 'month') AS interval, coalesce($4, old.currency) AS currency,
                    coalesce($5, old.unit_amount) AS unit_amount, coalesce($6, old.per_seat, false) AS per_seat
                FROM billing.plans p LEFT JOIN billing.plan_prices old ON old.stripe_price_id = $1
                WHERE p.plan = $2
            ), replaced AS (
                UPDATE billing.plan_prices r SET for_sale = false FROM terms
                WHERE NOT $7 AND r.plan = terms.plan AND r.interval = terms.interval
                    AND r.currency IS NOT DISTINCT FROM terms.currency AND r.stripe_price_id <> $1 AND r.for_sale
            )
            INSERT INTO billing.plan_prices (stripe_price_id, plan, interval, currency, unit_amount, per_seat, for_sale)
            SELECT $1, plan, interval, currency, unit_amount, per_seat, NOT $7 FROM terms
            ON CONFLICT (stripe_price_id) DO UPDATE
                SET plan = excluded.plan, interval = excluded.interval, currency = excluded.currency,
                    unit_amount = excluded.unit_amount, per_seat = excluded.per_seat, for_sale = excluded.for_sale";
        let changed = connection
            .execute(
                sql,
                &[
                    &self.price,
                    &self.plan,
                    &interval,
                    &self.currency,
                    &self.amount,
                    &self.per_seat,
                    &self.retire,
                ],
            )
            .await?;
        if changed == 0 {
            return Err(unknown_plan(&self.plan));
        }
        Ok(())
    }
}

/// Refuses a price of another plan.
pub(super) async fn require_plan(
    connection: &Client,
    price: &str,
    plan: &str,
) -> Result<(), Failure> {
    let sql = "SELECT plan FROM billing.plan_prices WHERE stripe_price_id = $1";
    let known: Option<String> = connection.query_opt(sql, &[&price]).await?;
    match known.filter(|known| known != plan) {
        None => Ok(()),
        Some(known) => Err(Failure::new(format!(
            "{price} is a price of the plan {known}. `tenantry plan price {plan} {price} --move` moves it."
        ))),
    }
}

/// Plan, price, terms.
type PriceRow = (String, String, String);

/// Lists all known prices.
pub(super) async fn list(connection: &Client) -> Result<(), Failure> {
    let sql =
        "SELECT p.plan, r.stripe_price_id, concat_ws(' ', r.interval, r.unit_amount, r.currency,
            CASE WHEN r.per_seat THEN 'per seat' END, CASE WHEN NOT r.for_sale THEN 'retired' END)
        FROM billing.plan_prices r JOIN billing.plans p USING (plan)
        ORDER BY p.position, r.for_sale DESC, r.interval, r.stripe_price_id";
    let rows: Vec<PriceRow> = connection.query(sql, &[]).await?;
    for (plan, price, terms) in rows {
        say(format!("{plan:<12} {price:<33}  {terms}"));
    }
    Ok(())
}

pub(super) fn parse_price(text: &str) -> Result<String, String> {
    if text.starts_with("price_") || text.starts_with("plan_") {
        return Ok(text.to_owned());
    }
    Err("must be Stripe's id of a price (price_…)".to_owned())
}

pub(super) fn parse_currency(text: &str) -> Result<String, String> {
    let text = text.to_lowercase();
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Ok(text);
    }
    Err("must be three letters, for example usd".to_owned())
}
