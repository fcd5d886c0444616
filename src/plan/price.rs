//! The Stripe prices of plans. Every known price leads to its plan, for sale or retired.

use std::collections::HashMap;

use async_graphql::{Enum, ID, Object, dataloader::Loader};
use entity::{plan, plan_price};
use sea_orm::{ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, Select};

use crate::{
    error::{Error, Result},
    graphql::Reader,
    tenancy::{Fetch as _, UnitOfWork},
};

/// How often a price is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entity::PriceInterval")]
pub enum PriceInterval {
    /// Each month.
    Month,
    /// Each year.
    Year,
}

#[derive(Debug)]
pub struct PlanPrice(pub plan_price::Model);

/// A price at which Stripe sells a plan.
#[Object]
impl PlanPrice {
    /// Stripe's ID of the price. `createCheckoutSession` accepts it.
    async fn id(&self) -> ID {
        self.0.stripe_price_id.clone().into()
    }

    /// How often the price is paid.
    async fn interval(&self) -> PriceInterval {
        self.0.interval.into()
    }

    /// The currency, as three lower-case letters, for example `usd`. Null if it is not recorded.
    async fn currency(&self) -> Option<&str> {
        self.0.currency.as_deref()
    }

    /// The amount in the smallest unit of the currency, for example cents. Null if it is not
    /// recorded.
    async fn unit_amount(&self) -> Option<i32> {
        self.0.unit_amount
    }

    /// Whether the amount is paid for each seat: each member and each open invitation.
    async fn per_seat(&self) -> bool {
        self.0.per_seat
    }
}

/// Finds the price that decides the plan of a subscription: of the highest plan, if the
/// subscription has several prices, and of its prices one per seat. Other products have none.
pub async fn find_price<'ids>(
    session: &impl UnitOfWork,
    ids: impl Iterator<Item = &'ids str>,
) -> Result<Option<plan_price::Model>> {
    // PostgreSQL rejects text with this character.
    let ids = ids.filter(|id| !id.contains('\0'));
    let ids = plan_price::Column::StripePriceId.eq_any(ids.map(str::to_owned));
    Ok(ranked().filter(ids).fetch_one(session).await?)
}

/// Lists all prices. The first one that a subscription has decides its plan.
pub async fn ranked_prices(session: &impl UnitOfWork) -> Result<Vec<plan_price::Model>> {
    Ok(ranked().fetch(session).await?)
}

fn ranked() -> Select<plan_price::Entity> {
    let to_plan = plan_price::Entity::belongs_to(plan::Entity)
        .from(plan_price::Column::Plan)
        .to(plan::Column::Plan);
    plan_price::Entity::find()
        .join(JoinType::InnerJoin, to_plan.into())
        .order_by_desc(plan::Column::Position)
        .order_by_desc(plan_price::Column::PerSeat)
        .order_by_asc(plan_price::Column::StripePriceId)
}

/// Lists the prices at which a plan is for sale.
pub async fn prices_for_sale(
    session: &impl UnitOfWork,
    plan: &str,
) -> Result<Vec<plan_price::Model>> {
    Ok(plan_price::Entity::find()
        .filter(plan_price::Column::Plan.eq(plan))
        .filter(plan_price::Column::ForSale.eq(true))
        .fetch(session)
        .await?)
}

/// Looks up the prices at which a plan is for sale, by the plan's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PricesOfPlan(pub String);

impl Loader<PricesOfPlan> for Reader {
    type Value = Vec<plan_price::Model>;
    type Error = Error;

    async fn load(
        &self,
        keys: &[PricesOfPlan],
    ) -> Result<HashMap<PricesOfPlan, Vec<plan_price::Model>>> {
        let session = self.session()?;
        let rows = plan_price::Entity::find()
            .filter(plan_price::Column::Plan.eq_any(keys.iter().map(|key| key.0.clone())))
            .filter(plan_price::Column::ForSale.eq(true))
            .order_by_asc(plan_price::Column::Interval)
            .order_by_asc(plan_price::Column::StripePriceId)
            .fetch(&*session)
            .await?;
        let mut prices: HashMap<_, Vec<_>> = HashMap::new();
        for row in rows {
            prices.entry(PricesOfPlan(row.plan.clone())).or_default().push(row);
        }
        Ok(prices)
    }
}
