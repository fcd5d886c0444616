//! What an owner wishes to buy, and the price and quantity that Stripe sells for it.

use entity::{PriceInterval, plan_price};

use super::state::known_plan;
use crate::{
    error::{Error, Result},
    plan,
    seats::{self, SeatsMode},
    tenancy::{Session, UnitOfWork as _},
};

/// The largest quantity that Stripe accepts.
const MOST_SEATS: u64 = 999_999;

/// A plan or one of its prices, and the number of seats.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) plan: Option<String>,
    pub(super) interval: Option<PriceInterval>,
    pub(super) price: Option<String>,
    pub(super) seats: Option<i32>,
}

impl Wish {
    /// Finds the price, and the quantity to buy at it.
    pub(super) async fn price(&self, session: &Session) -> Result<(plan_price::Model, u32)> {
        let price = match (&self.plan, &self.price) {
            (None, Some(id)) if self.interval.is_none() => {
                let price = plan::find_price(session, std::iter::once(id.as_str())).await?;
                let price = price.filter(|price| price.for_sale).ok_or_else(not_for_sale)?;
                // An archived plan keeps its prices.
                plan::find(session, &price.plan).await?.ok_or_else(not_for_sale)?;
                price
            }
            (Some(plan), None) => self.price_of_plan(session, plan).await?,
            _ => {
                let message =
                    "Give either `plan`, with or without `interval`, or `priceId`.".to_owned();
                return Err(Error::BadUserInput { field: "input", message });
            }
        };
        let quantity = self.quantity(session, &price).await?;
        Ok((price, quantity))
    }

    /// The only price of the plan, of this interval if it is given. Monthly prices come first.
    async fn price_of_plan(&self, session: &Session, plan: &str) -> Result<plan_price::Model> {
        let plan = known_plan(session, plan).await?;
        let mut prices = plan::prices_for_sale(session, &plan.plan).await?;
        let monthly = |price: &plan_price::Model| price.interval == PriceInterval::Month;
        let interval = match self.interval {
            None if prices.iter().any(monthly) => Some(PriceInterval::Month),
            interval => interval,
        };
        prices.retain(|price| interval.is_none_or(|interval| price.interval == interval));
        match (prices.pop(), prices.is_empty()) {
            (Some(price), true) => Ok(price),
            (Some(_), false) => Err(Error::bad_input(
                "input.priceId",
                "is required, because the plan has several prices. `Plan.prices` lists them.",
            )),
            (None, _) => Err(Error::bad_input(
                if self.interval.is_some() { "input.interval" } else { "input.plan" },
                "cannot be bought, because there is no Stripe price for it. `Plan.prices` lists what can.",
            )),
        }
    }

    /// The quantity: the size of the team, unless owners choose it.
    async fn quantity(&self, session: &Session, price: &plan_price::Model) -> Result<u32> {
        let refuse = |message: String| Err(Error::bad_input("input.seats", message));
        let mode = session.settings().area::<seats::Settings>()?.mode;
        let may_choose = price.per_seat && mode == Some(SeatsMode::Cap);
        match self.seats {
            Some(_) if !price.per_seat => {
                refuse("must be omitted: the price is not per seat.".to_owned())
            }
            Some(_) if !may_choose => {
                refuse("must be omitted: the seats follow the size of the team.".to_owned())
            }
            None if !price.per_seat => Ok(1),
            chosen => {
                let size = seats::team_size(session).await?;
                let seats = chosen.map_or(size, |seats| u64::try_from(seats).unwrap_or(0));
                match u32::try_from(seats) {
                    Ok(quantity) if (size.max(1)..=MOST_SEATS).contains(&seats) => Ok(quantity),
                    _ => refuse(format!(
                        "must be {size} to {MOST_SEATS}: members and open invitations take {size}."
                    )),
                }
            }
        }
    }
}

fn not_for_sale() -> Error {
    Error::bad_input("input.priceId", "is not for sale. `Plan.prices` lists the prices.")
}
