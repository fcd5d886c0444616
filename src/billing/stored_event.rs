//! The stored events of Stripe, and what remains to be done about one.

use chrono::{DateTime, Utc};
use entity::OrganizationId;
use sea_orm::ConnectionTrait;
use stripe::Event;

use crate::{
    error::{Error, Result},
    sql::sql,
    tenancy::SystemSession,
};

/// The result of applying an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Billing now matches the event, or a newer state that Stripe reported.
    Applied(OrganizationId),
    /// The event changed nothing, for this reason.
    Nothing(&'static str),
    /// The event has no effect, or not its whole effect, until an operator acts. Stripe need not
    /// send it again.
    Problem(String),
}

pub(super) enum Step {
    Done(Outcome),
    /// Ask Stripe which organization this customer was created for.
    AskOwner(String),
    /// Ask Stripe for this subscription and for the stored one.
    Ask(String, Option<String>, DateTime<Utc>),
    /// Ask Stripe for the subscriptions of this customer that have not ended.
    AskOthers(String),
}

pub(super) async fn claim(session: &SystemSession, id: &str) -> Result<Option<(Event, bool)>> {
    let claim = sql("SELECT payload, processed FROM billing.claim_stripe_event($1)", [id.into()]);
    let Some(row) = session.query_one_raw(claim).await? else { return Ok(None) };
    let event = Event::parse(row.try_get("", "payload")?).map_err(Error::internal)?;
    Ok(Some((event, row.try_get("", "processed")?)))
}

/// Marks an event as processed without a change, and stores the reason.
pub(super) async fn skip(session: &SystemSession, id: &str, why: &'static str) -> Result<Step> {
    finish(session, id, Some(why), true).await?;
    Ok(Step::Done(Outcome::Nothing(why)))
}

/// Marks an event as processed, with a problem that an operator has to solve.
pub(super) async fn report(session: &SystemSession, id: &str, problem: String) -> Result<Step> {
    finish(session, id, Some(&problem), true).await?;
    Ok(Step::Done(Outcome::Problem(problem)))
}

/// Stores the result of an event. With `done` it is processed, otherwise Stripe must send it again.
pub(super) async fn finish(
    session: &SystemSession,
    id: &str,
    text: Option<&str>,
    done: bool,
) -> Result<()> {
    let finish = "SELECT billing.finish_stripe_event($1, $2, $3)";
    session.begun().execute_raw(sql(finish, [id.into(), text.into(), done.into()])).await?;
    Ok(())
}
