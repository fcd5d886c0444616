//! Stripe's events: kept first, then applied once, each in one transaction with its audit entry.
//!
//! Stripe delivers at least once and in any order. The time of the last event that was applied decides whether one is news; where
//! it cannot (Stripe counts whole seconds, and another subscription has a history of its own), Stripe is asked how things stand.

use chrono::{DateTime, Utc};
use entity::{OrganizationId, SubscriptionStatus, organization_billing};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::state::{is_live, record, write};
use crate::{
    error::{Error, Result},
    plan,
    stripe::{Event, Subject, Subscription},
    tenancy::{Access, Environment, Placement, Reason, SystemSession, open_system},
};

/// How often Stripe is asked about one event while others change the same organization.
const MOST_READS: usize = 5;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Billing is now as the event says, or as Stripe said meanwhile.
    Applied(OrganizationId),
    /// There was nothing to do, for this reason.
    Nothing(&'static str),
}

/// How Stripe said a subscription stands, after billing was found as it was at `version`.
struct Read {
    subscription: Subscription,
    /// The one on record, where that is another.
    known: Option<Subscription>,
    version: DateTime<Utc>,
}

enum Step {
    Done(Outcome),
    /// Stripe must be asked about this subscription, and the one on record.
    Ask(String, Option<String>, DateTime<Utc>),
}

enum Decision<'event> {
    Write(&'event Subscription),
    Ask,
    Skip(&'static str),
    /// Not now: Stripe is to send it again.
    Wait(&'static str),
}

/// Keeps an event, whatever becomes of it afterwards; true when it was applied before.
///
/// # Errors
///
/// When the database fails.
pub async fn receive(
    placement: &Placement,
    environment: &Environment,
    event: &Event,
) -> Result<bool> {
    let session = open_system(placement, environment, None, Reason::Stripe, Access::Write).await?;
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT billing.receive_stripe_event($1, $2, $3, $4) AS processed",
        [
            event.id.as_str().into(),
            event.kind.as_str().into(),
            event.created.into(),
            event.payload.clone().into(),
        ],
    );
    let row = session.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| Error::internal("the event was not kept"))?;
    let processed = row.try_get("", "processed")?;
    session.commit().await?;
    Ok(processed)
}

/// Applies an event that was kept; a failure is kept with it.
///
/// # Errors
///
/// When it could not be applied; again, it may be.
pub async fn apply(
    placement: &Placement,
    environment: &Environment,
    id: &str,
    reason: Reason,
) -> Result<Outcome> {
    let outcome = try_apply(placement, environment, id, reason).await;
    if let Err(error) = &outcome {
        // Where the database is the trouble, this cannot succeed either.
        let noted = async {
            let session = open_system(placement, environment, None, reason, Access::Write).await?;
            finish(&session, id, Some(&error.cause())).await?;
            session.commit().await
        };
        if let Err(second) = noted.await {
            tracing::warn!(event = id, error = %second, "the failure of an event was not kept");
        }
    }
    outcome
}

async fn try_apply(
    placement: &Placement,
    environment: &Environment,
    id: &str,
    reason: Reason,
) -> Result<Outcome> {
    let mut read = None;
    for _ in 0..MOST_READS {
        let session = open_system(placement, environment, None, reason, Access::Write).await?;
        match step(&session, id, reason == Reason::BillingReplay, read.take()).await? {
            Step::Done(outcome) => {
                session.commit().await?;
                return Ok(outcome);
            }
            Step::Ask(subscription, known, version) => {
                // Stripe may take its time: no lock and no connection is held meanwhile.
                drop(session);
                let stripe = environment.rules.stripe.as_ref();
                let stripe = stripe.ok_or_else(|| Error::internal("there is no way to Stripe"))?;
                let known = match known.filter(|known| *known != subscription) {
                    Some(known) => Some(stripe.subscription(&known).await?),
                    None => None,
                };
                let subscription = stripe.subscription(&subscription).await?;
                read = Some(Read { subscription, known, version });
            }
        }
    }
    Err(Error::unavailable("billing changed each time that Stripe was asked"))
}

/// One transaction's worth of work on an event.
async fn step(session: &SystemSession, id: &str, again: bool, read: Option<Read>) -> Result<Step> {
    let Some((event, processed)) = claim(session, id).await? else {
        return Err(Error::NotFound("event"));
    };
    let nothing = |why| Ok(Step::Done(Outcome::Nothing(why)));
    if processed && !again {
        return nothing("it was applied before");
    }
    let Some(subject) = event.subject().map_err(Error::internal)? else {
        finish(session, id, None).await?;
        return nothing("it is about no subscription");
    };
    let Some(organization_id) = find_organization(session, &subject).await? else {
        finish(session, id, None).await?;
        return nothing("its customer is no organization of ours");
    };
    session.enter(organization_id).await?;
    let lock = plan::lock_alone(session).await?;
    let before = lock.billing();
    let read = read.filter(|read| read.version == before.updated_at);
    match decide(before, &event, &subject, read.as_ref()) {
        Decision::Ask => {
            let known = before.stripe_subscription_id.clone();
            Ok(Step::Ask(subject.subscription, known, before.updated_at))
        }
        Decision::Wait(why) => Err(Error::internal(why)),
        Decision::Skip(why) => {
            finish(session, id, None).await?;
            nothing(why)
        }
        Decision::Write(subscription) => {
            let after = write(session, &lock, subscription, Some(&event)).await?;
            record(session, before, &after, &event).await?;
            finish(session, id, None).await?;
            Ok(Step::Done(Outcome::Applied(organization_id)))
        }
    }
}

/// Whether an event is news. `read` is what Stripe said when it was asked.
fn decide<'event>(
    billing: &organization_billing::Model,
    event: &Event,
    subject: &'event Subject,
    read: Option<&'event Read>,
) -> Decision<'event> {
    let current = read.map(|read| &read.subscription);
    let known = read.and_then(|read| read.known.as_ref());
    let told = subject.state.as_ref();
    match &billing.stripe_subscription_id {
        None => current.or(told).map_or(Decision::Ask, Decision::Write),
        Some(known) if *known == subject.subscription => {
            let order = Some(event.created).cmp(&billing.stripe_event_at);
            if billing.status == SubscriptionStatus::Canceled {
                return Decision::Skip("the subscription has ended for good");
            }
            match order {
                std::cmp::Ordering::Less => Decision::Skip("something newer was applied before"),
                std::cmp::Ordering::Equal => current.map_or(Decision::Ask, Decision::Write),
                std::cmp::Ordering::Greater => {
                    current.or(told).map_or(Decision::Ask, Decision::Write)
                }
            }
        }
        Some(_) => match current {
            None => Decision::Ask,
            Some(current) if !is_live(current.status) => {
                Decision::Skip("it is about a subscription that is not the current one")
            }
            // Somebody is charged twice: an operator must end one of them.
            Some(_)
                if is_live(billing.status) && known.is_some_and(|known| is_live(known.status)) =>
            {
                Decision::Wait("the organization has another live subscription")
            }
            Some(current) => Decision::Write(current),
        },
    }
}

async fn claim(session: &SystemSession, id: &str) -> Result<Option<(Event, bool)>> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT payload, processed FROM billing.claim_stripe_event($1)",
        [id.into()],
    );
    let Some(row) = session.query_one_raw(statement).await? else {
        return Ok(None);
    };
    let event = Event::parse(row.try_get("", "payload")?).map_err(Error::internal)?;
    Ok(Some((event, row.try_get("", "processed")?)))
}

async fn find_organization(
    session: &SystemSession,
    subject: &Subject,
) -> Result<Option<OrganizationId>> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT billing.find_organization($1, $2) AS id",
        [subject.customer.as_str().into(), subject.organization.into()],
    );
    let row = session.query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "id")).transpose()?.flatten())
}

async fn finish(session: &SystemSession, id: &str, error: Option<&str>) -> Result<()> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT billing.finish_stripe_event($1, $2)",
        [id.into(), error.into()],
    );
    session.execute_where_begun(statement).await
}
