//! The Stripe prices of a plan in the file of a catalogue.

use std::collections::BTreeSet;

use pg::Client;
use serde::{Deserialize, Serialize};

use super::{
    Failure,
    feature::name_of,
    plan_price::{Interval, parse_currency, parse_price, require_plan},
};

/// A price. It is for sale, unless the file says otherwise.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceEntry {
    id: String,
    interval: Interval,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    /// In the smallest unit of the currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<i32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    per_seat: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    retired: bool,
}

/// The prices of the plan `p`, in SQL.
pub(super) const OF_PLAN: &str = "(SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
        'id', r.stripe_price_id, 'interval', r.interval, 'currency', r.currency, 'amount', r.unit_amount,
        'per_seat', r.per_seat, 'retired', NOT r.for_sale)) ORDER BY NOT r.for_sale, r.interval, r.stripe_price_id), '[]')
    FROM billing.plan_prices r WHERE r.plan = p.plan)";

/// Checks the prices of all plans.
pub(super) fn check<'file>(
    plans: impl Iterator<Item = (&'file str, &'file [PriceEntry])>,
) -> Result<(), String> {
    let mut known = BTreeSet::new();
    for (plan, prices) in plans {
        let mut sold = BTreeSet::new();
        for PriceEntry { id, interval, currency, amount, retired, .. } in prices {
            parse_price(id).map_err(|problem| format!("the price {id} {problem}"))?;
            if !known.insert(id) {
                return Err(format!("the price {id} appears twice"));
            }
            let is_currency = |text: &String| parse_currency(text).as_ref() == Ok(text);
            if !currency.as_ref().is_none_or(is_currency) {
                let problem = "must be three lower-case letters, for example usd";
                return Err(format!("the currency of {id} {problem}"));
            }
            if amount.is_some_and(|amount| amount < 0) || (amount.is_some() && currency.is_none()) {
                return Err(format!("the amount of {id} must be at least 0, with a currency"));
            }
            if !retired && !sold.insert((interval, currency)) {
                return Err(format!(
                    "{plan} has several prices for sale with the interval and currency of {id}. Mark the others as retired."
                ));
            }
        }
    }
    Ok(())
}

/// Makes the prices of a plan what the file says. Prices that it does not name stay, unless they
/// are to be retired.
pub(super) async fn apply(
    connection: &Client,
    plan: &str,
    prices: &[PriceEntry],
    retire: bool,
) -> Result<(), Failure> {
    let named: Vec<_> = prices.iter().map(|price| price.id.as_str()).collect();
    if retire {
        let sql = "UPDATE billing.plan_prices SET for_sale = false
                 WHERE plan = $1 AND for_sale AND stripe_price_id <> ALL ($2)";
        connection.execute(sql, &[&plan, &named]).await?;
    }
    for price in prices {
        price.apply(connection, plan).await?;
    }
    let sql = "SELECT old.stripe_price_id FROM billing.plan_prices old JOIN billing.plan_prices new USING (plan, interval)
             WHERE plan = $1 AND old.for_sale AND new.for_sale AND old.currency IS NOT DISTINCT FROM new.currency
                 AND old.stripe_price_id <> ALL ($2) AND new.stripe_price_id = ANY ($2)
             ORDER BY 1 LIMIT 1";
    let other: Option<String> = connection.query(sql, &[&plan, &named]).await?.pop();
    match other {
        None => Ok(()),
        Some(other) => Err(Failure::new(format!(
            "{plan} is also for sale at {other}, which the file does not name, with the same interval and currency. Add it as retired, or import with --retire."
        ))),
    }
}

impl PriceEntry {
    async fn apply(&self, connection: &Client, plan: &str) -> Result<(), Failure> {
        let Self { id, interval, currency, amount, per_seat, retired } = self;
        let interval = name_of(interval);
        require_plan(connection, id, plan).await?;
        let sql = "INSERT INTO billing.plan_prices AS r (stripe_price_id, plan, interval, currency, unit_amount, per_seat, for_sale)
                 VALUES ($1, $2, $3, $4, $5, $6, NOT $7)
                 ON CONFLICT (stripe_price_id) DO UPDATE
                     SET interval = $3, currency = $4, unit_amount = $5, per_seat = $6, for_sale = NOT $7
                     WHERE (r.interval, r.currency, r.unit_amount, r.per_seat, r.for_sale)
                         IS DISTINCT FROM ($3, $4, $5, $6, NOT $7)";
        connection
            .execute(sql, &[id, &plan, &interval, currency, amount, per_seat, retired])
            .await?;
        Ok(())
    }
}
