//! Sets the quantity of per-seat subscriptions after the commit that changed the size of a team,
//! and retries until Stripe has it.

use std::sync::Arc;

use stripe::{Stripe, Subscription};

use super::outbox_worker::{MOST_ATTEMPTS, OutboxWorker, wait};
use crate::{
    billing::{self, SeatChange},
    error::Result,
    outbox::{self, Kind, Overdue},
    request::GraphqlService,
    seats::{self, SeatsMode},
    tenancy::{Reason, SystemSession, UnitOfWork as _},
};

/// How long a server leases a change: longer than its two calls may take.
const LEASE: chrono::Duration = chrono::Duration::minutes(1);

/// The attempts if Stripe does not allow the change. A repetition finds a subscription that has
/// just ended.
const MOST_REFUSED_ATTEMPTS: i32 = 3;

/// Follows the size of teams until it is dropped.
pub(super) async fn follow(service: Arc<GraphqlService>, stripe: Stripe) {
    let (kind, reason) = (Kind::StripeSeats, Reason::Seats);
    let worker = OutboxWorker { service: &service, kind, reason };
    worker.run(|change| make(worker, &stripe, change)).await;
}

async fn make(worker: OutboxWorker<'_>, stripe: &Stripe, due: Overdue) -> Result<()> {
    let service = worker.service;
    let session = worker.open(due).await?;
    let Some(row) = outbox::claim(&session, due.id, LEASE).await? else {
        return Ok(());
    };
    let settings = *service.settings.area::<seats::Settings>()?;
    let change = match settings.mode {
        Some(SeatsMode::Sync) => billing::find_seat_change(&session).await?,
        _ => None,
    };
    let Some(change) = change else {
        outbox::finish(&session, due.id, Some("no subscription follows the team")).await?;
        return session.commit().await;
    };
    session.commit().await?;
    let key = format!("{}-{}", due.id, row.attempts);
    let answer = billing::set_seats(stripe, &change, settings.proration.name(), &key).await;
    let session = worker.open(due).await?;
    let outcome = finish(&session, due, row.attempts, &change, answer).await?;
    session.commit().await?;
    service.metrics.seat_change(outcome);
    Ok(())
}

/// Records the outcome of an attempt, and returns its name in metrics.
async fn finish(
    session: &SystemSession,
    due: Overdue,
    attempts: i32,
    change: &SeatChange,
    answer: stripe::Result<Option<Subscription>>,
) -> Result<&'static str> {
    match answer {
        Ok(None) => {
            outbox::finish(session, due.id, Some("the subscription is no longer per seat")).await?;
            Ok("not_needed")
        }
        Ok(Some(subscription)) => {
            if billing::record_seats(session, change, &subscription).await? {
                outbox::finish(session, due.id, None).await?;
                seats::follow_expiry(session).await?;
                return Ok("done");
            }
            let reason = "the team has changed meanwhile";
            outbox::postpone(session, due.id, session.now(), reason).await?;
            Ok("retried")
        }
        Err(error) => fail(session, due, attempts, &error).await,
    }
}

/// Schedules another attempt, or gives the change up.
async fn fail(
    session: &SystemSession,
    due: Overdue,
    attempts: i32,
    error: &stripe::Error,
) -> Result<&'static str> {
    if attempts < most_attempts(error) {
        tracing::warn!(change = %due.id, attempts, %error, "a change of seats is delayed: Stripe did not make it");
        let until = session.now() + wait(attempts);
        outbox::postpone(session, due.id, until, &error.to_string()).await?;
        return Ok("retried");
    }
    let organization = due.organization_id;
    tracing::error!(change = %due.id, %organization, attempts, %error, "a change of seats was given up");
    outbox::finish(session, due.id, Some(&error.to_string())).await?;
    seats::follow_expiry(session).await?;
    Ok("given_up")
}

fn most_attempts(error: &stripe::Error) -> i32 {
    match error {
        stripe::Error::Invalid(_) | stripe::Error::Unreadable(_) => MOST_REFUSED_ATTEMPTS,
        // A wrong key can be replaced. After a day, the next change of the team, or renewal, tries
        // again.
        stripe::Error::Unavailable(_) | stripe::Error::Refused(_) => MOST_ATTEMPTS,
    }
}
