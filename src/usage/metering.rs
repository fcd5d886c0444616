//! The meters of a team's features. A count and its check are one statement in the transaction of
//! the mutation, so that any number of servers together never exceed a limit.

use chrono::{DateTime, Utc};
use entity::usage;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{API_CALLS_PER_MONTH, Meter, entitlement::Entitlement};
use crate::{
    auth::Permission,
    calendar::month_of,
    error::{Error, Result},
    graphql::BigInt,
    plan::{self, Allowance},
    sql::{sql, value_of},
    tenancy::{Fetch as _, Session, Tenant, UnitOfWork as _},
};

/// The maximum number of periods that are listed.
const MAX_PERIODS: u64 = 100;

/// The longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// Usage to count.
#[derive(Debug)]
pub(super) struct Event {
    feature: String,
    amount: i64,
    key: Option<String>,
}

impl Event {
    /// Checks the input of a mutation.
    pub(super) fn parse(feature: String, amount: i64, key: Option<String>) -> Result<Self> {
        if amount < 1 {
            return Err(Error::bad_input("input.amount", "must be at least 1"));
        }
        if key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > MAX_KEY_BYTES || key.contains('\0'))
        {
            let message = format!("must have 1 to {MAX_KEY_BYTES} bytes, without NUL");
            return Err(Error::bad_input("input.idempotencyKey", message));
        }
        Ok(Self { feature, amount, key })
    }
}

/// What happens when usage exceeds the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Refuse,
    Count,
}

/// Counts usage, once for each idempotency key, and returns the entitlement after it.
pub(super) async fn count(session: &Session, event: &Event, excess: Excess) -> Result<Entitlement> {
    // A caller without the permission takes no lock.
    session.authorize(Permission::UsageRecord)?;
    if event.key.is_some() {
        // Before the row of the key: two mutations may lock keys and sums in different orders.
        plan::lock(session).await?;
    } else {
        plan::lock_if_several_changes(session).await?;
    }
    // The role may have changed during the wait.
    let tenant = session.authorize(Permission::UsageRecord)?;
    let allowed = plan::allowances(session, Some(&event.feature)).await?;
    let meter = allowed.features.into_iter().next();
    let meter = meter.filter(|(feature, _)| feature.feature != API_CALLS_PER_MONTH);
    let with_period = meter.and_then(|(feature, allowance)| {
        let period = plan::period_of(&feature, &allowed.billing, session.now())?;
        Some((feature, allowance, period))
    });
    let Some((feature, allowance, (start, end))) = with_period else {
        let message = "must be the key of a meter that your application counts";
        return Err(Error::bad_input("input.feature", message));
    };
    let used = if is_new(session, tenant, event).await? {
        add(session, tenant, event, (start, end), allowance, excess).await?
    } else {
        find(session, tenant, &event.feature, start).await?
    };
    Ok(Entitlement { feature, allowance, used: Some(used), resets_at: Some(end) })
}

/// Deletes the key that is about to be stored if it is older than a day, and some other old ones.
/// More than are stored, so that they do not pile up. The organization's lock is held.
const DELETE_OLD_KEYS: &str = "
DELETE FROM usage_keys
WHERE organization_id = $1 AND created_at < now() - interval '24 hours' AND (feature, key) IN (
    (SELECT feature, key FROM usage_keys
     WHERE organization_id = $1 AND created_at < now() - interval '24 hours' ORDER BY created_at LIMIT 100)
    UNION ALL SELECT $2::text, $3::text)";

/// Stores the idempotency key. Returns `false` if the usage was counted before.
async fn is_new(session: &Session, tenant: Tenant, event: &Event) -> Result<bool> {
    let Some(key) = &event.key else { return Ok(true) };
    let row = [tenant.organization_id.into(), event.feature.clone().into(), key.clone().into()];
    session.execute_raw(sql(DELETE_OLD_KEYS, row.iter().cloned())).await?;
    let insert = sql(
        "INSERT INTO usage_keys (organization_id, feature, key, amount) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
        row.iter().cloned().chain([event.amount.into()]),
    );
    if session.execute_raw(insert).await?.rows_affected() == 1 {
        return Ok(true);
    }
    let known = sql(
        "SELECT amount FROM usage_keys WHERE organization_id = $1 AND feature = $2 AND key = $3",
        row,
    );
    if value_of::<i64>(session, "amount", known).await? == event.amount {
        Ok(false)
    } else {
        Err(Error::Conflict(format!("The idempotency key `{key}` was used with another amount.")))
    }
}

/// Adds to the usage of a period. It stays at [`BigInt::MAX`].
async fn add(
    session: &Session,
    tenant: Tenant,
    event: &Event,
    (start, end): (DateTime<Utc>, DateTime<Utc>),
    allowance: Allowance,
    excess: Excess,
) -> Result<i64> {
    let limit = allowance.limit.filter(|_| excess == Excess::Refuse);
    let add = sql(
        "INSERT INTO usage AS u (organization_id, feature, period_start, used, period_end)
         SELECT $1, $2, $3, $4, $7 WHERE $5::int8 IS NULL OR $4 <= $5
         ON CONFLICT (organization_id, feature, period_start)
             DO UPDATE SET used = u.used + least($4, $6 - u.used), period_end = $7
             WHERE $5::int8 IS NULL OR u.used + $4 <= $5
         RETURNING used",
        [
            tenant.organization_id.into(),
            event.feature.clone().into(),
            start.into(),
            event.amount.into(),
            limit.into(),
            BigInt::MAX.into(),
            end.into(),
        ],
    );
    let row = session.query_one_raw(add).await.map_err(Error::of_insert)?;
    match (row, limit) {
        (Some(row), _) => Ok(row.try_get("", "used")?),
        (None, Some(limit)) => {
            Err(Error::PlanLimitExceeded { feature: event.feature.clone(), limit })
        }
        (None, None) => Err(Error::internal("counting usage returned no row")),
    }
}

async fn find(
    session: &Session,
    tenant: Tenant,
    feature: &str,
    start: DateTime<Utc>,
) -> Result<i64> {
    let key = (tenant.organization_id, feature.to_owned(), start);
    let row = usage::Entity::find_by_id(key).fetch_one(session).await?;
    Ok(row.map_or(0, |row| row.used))
}

/// Lists the periods in which a meter counted something, newest first: those that started between
/// `from` (inclusive) and `to` (exclusive).
pub(super) async fn periods(
    session: &Session,
    meter: &Meter,
    feature: &str,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
) -> Result<Vec<usage::Model>> {
    let tenant = session.authorize(Permission::OrganizationRead)?;
    // PostgreSQL rejects text with this character.
    if feature.contains('\0') {
        return Ok(Vec::new());
    }
    let mut query = usage::Entity::find()
        .filter(usage::Column::OrganizationId.eq(tenant.organization_id))
        .filter(usage::Column::Feature.eq(feature));
    if let Some(from) = from {
        query = query.filter(usage::Column::PeriodStart.gte(from));
    }
    if let Some(to) = to {
        query = query.filter(usage::Column::PeriodStart.lt(to));
    }
    let periods = query.order_by_desc(usage::Column::PeriodStart).limit(MAX_PERIODS);
    let mut periods = periods.fetch(session).await?;
    let (month, _) = month_of(session.now());
    for period in &mut periods {
        // Leased calls are in the table before they are used.
        if feature == API_CALLS_PER_MONTH && period.period_start == month {
            let used = meter.used(tenant.organization_id, period.used);
            let today = (session.now() - month).num_days();
            add_to_days(&mut period.days, usize::try_from(today).unwrap_or(0), used - period.used);
            period.used = used;
        }
    }
    Ok(periods)
}

/// Corrects the usage by day as `billing.count_days` does: what is taken back is that of the latest
/// days. `today` is counted from 0.
fn add_to_days(days: &mut Vec<i64>, today: usize, mut change: i64) {
    if change > 0 {
        days.resize(days.len().max(today + 1), 0);
        days[today] += change;
    }
    for day in days.iter_mut().rev() {
        let taken = (-change).clamp(0, *day);
        *day -= taken;
        change += taken;
    }
    let last = days.iter().rposition(|used| *used > 0);
    days.truncate(last.map_or(0, |last| last + 1));
}

#[cfg(test)]
mod tests {
    use super::add_to_days;

    #[test]
    fn a_correction_adds_to_today_and_takes_from_the_latest_days() {
        let corrected = |days: &[i64], today, change| {
            let mut days = days.to_vec();
            add_to_days(&mut days, today, change);
            days
        };
        assert_eq!(corrected(&[3], 2, 5), [3, 0, 5]);
        assert_eq!(corrected(&[3, 4], 1, 5), [3, 9]);
        assert_eq!(corrected(&[3, 4, 2], 2, -5), [3, 1]);
        assert_eq!(corrected(&[3, 4], 1, 0), [3, 4]);
        assert_eq!(corrected(&[3], 0, -3), [0; 0]);
    }
}
