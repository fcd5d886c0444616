//! `tenantry plan price`: the Stripe prices of plans. A price that was known stays known, so that
//! subscriptions at it keep their plan.

use clap::ValueEnum;
use pg::Client;

use super::{Failure, say};

/// Add a Stripe price of a plan, or retire one. A new price for sale replaces the one with the same
/// interval and currency: existing subscriptions at it keep the plan.
#[derive(Debug, clap::Args)]
pub(super) struct Price {
    /// The plan's key, for example pro.
    plan: String,

    /// Stripe's id of the price (price_…).
    #[arg(value_parser = parse_price)]
    price: String,

    /// How often the price is paid.
    #[arg(long, default_value = "month")]
    interval: Interval,

    /// The amount in the smallest unit of the currency, for example cents. Shown to clients; Stripe
    /// decides what is charged.
    #[arg(long, requires = "currency", value_parser = clap::value_parser!(i32).range(0..))]
    amount: Option<i32>,

    /// The currency, for example usd.
    #[arg(long, value_parser = parse_currency)]
    currency: Option<String>,

    /// The price is for each member and open invitation.
    #[arg(long)]
    per_seat: bool,

    /// No longer sell the price.
    #[arg(long, conflicts_with_all = ["interval", "amount", "currency", "per_seat"])]
    retire: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Interval {
    Month,
    Year,
}

impl Interval {
    fn name(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

impl Price {
    /// Changes the catalogue, in one statement.
    pub(super) async fn run(&self, connection: &Client) -> Result<(), Failure> {
        let plan: Option<String> = connection
            .query(
                "SELECT plan FROM billing.plan_prices WHERE stripe_price_id = $1",
                &[&self.price],
            )
            .await?
            .pop();
        match plan {
            Some(plan) if plan != self.plan => {
                return Err(Failure::new(format!("{} is a price of the plan {plan}", self.price)));
            }
            None if self.retire => {
                return Err(Failure::new(format!(
                    "the plan {} has no price {}",
                    self.plan, self.price
                )));
            }
            _ => {}
        }
        if self.retire {
            let retire =
                "UPDATE billing.plan_prices SET for_sale = false WHERE stripe_price_id = $1";
            connection.execute(retire, &[&self.price]).await?;
            return Ok(());
        }
        let interval = self.interval.name();
        let changed = connection.execute(
            "WITH replaced AS (
                 UPDATE billing.plan_prices SET for_sale = false
                 WHERE plan = $2 AND interval = $3 AND currency IS NOT DISTINCT FROM $4
                     AND stripe_price_id <> $1 AND for_sale
             )
             INSERT INTO billing.plan_prices AS p (stripe_price_id, plan, interval, currency, unit_amount, per_seat)
             SELECT $1, plan, $3, $4, $5, $6 FROM billing.plans WHERE plan = $2
             ON CONFLICT (stripe_price_id) DO UPDATE
                 SET interval = $3, currency = $4, unit_amount = $5, per_seat = $6, for_sale = true",
            &[&self.price, &self.plan, &interval, &self.currency, &self.amount, &self.per_seat],
        )
        .await?;
        if changed == 0 {
            let plan = &self.plan;
            return Err(Failure::new(format!(
                "there is no plan {plan}. `tenantry plan list` lists the plans."
            )));
        }
        Ok(())
    }
}

/// Plan, price, terms.
type PriceRow = (String, String, String);

/// Lists all known prices.
pub(super) async fn list(connection: &Client) -> Result<(), Failure> {
    let rows: Vec<PriceRow> = connection
        .query(
            "SELECT p.plan, r.stripe_price_id, concat_ws(' ', r.interval, r.unit_amount, r.currency,
                 CASE WHEN r.per_seat THEN 'per seat' END, CASE WHEN NOT r.for_sale THEN 'retired' END)
             FROM billing.plan_prices r JOIN billing.plans p USING (plan)
             ORDER BY p.position, r.for_sale DESC, r.interval, r.stripe_price_id",
            &[],
        )
        .await?;
    for (plan, price, terms) in rows {
        say(format!("{plan:<12} {price:<33}  {terms}"));
    }
    Ok(())
}

fn parse_price(text: &str) -> Result<String, String> {
    if text.starts_with("price_") || text.starts_with("plan_") {
        return Ok(text.to_owned());
    }
    Err("must be Stripe's id of a price (price_…)".to_owned())
}

fn parse_currency(text: &str) -> Result<String, String> {
    let text = text.to_lowercase();
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Ok(text);
    }
    Err("must be three letters, for example usd".to_owned())
}
