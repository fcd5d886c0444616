//! Stripe's events: each is stored first, then applied once, in one transaction with its audit
//! entry. Stripe delivers at least once and in any order, so the server asks Stripe for the current
//! state where times cannot order two events.

use chrono::{DateTime, Utc};
use stripe::{Event, Stripe, Subject};

use super::{
    decision::Read,
    delivery::{Answers, deliver},
    recipient::{OTHER_CUSTOMER, Owner, Recipient, find_organization, find_recipient},
    settings::Settings as BillingSettings,
    stored_event::{Outcome, Step, claim, finish, report, skip},
};
use crate::{
    error::{Error, Result},
    sql::{sql, value_of},
    tenancy::{Access, Databases, Reason, Settings, SystemSession, UnitOfWork as _, open_system},
};

/// The reason for skipping an event that was never paid.
const OF_TEST_MODE: &str = "it is of Stripe's test mode";

/// The problem of an event that the secret key cannot ask about.
const OF_LIVE_MODE: &str = "it is of Stripe's live mode, but STRIPE_SECRET_KEY is a key of test mode: \
     replace the key, then replay the event";

/// How often Stripe is asked about one event while other requests change the same organization.
const MAX_READS: usize = 6;

/// Stores an event before it is applied. Returns whether it was applied earlier.
pub async fn receive(databases: &Databases, settings: &Settings, event: &Event) -> Result<bool> {
    let session = open_system(databases, settings, None, Reason::Stripe, Access::Write).await?;
    let receive = sql(
        "SELECT billing.receive_stripe_event($1, $2, $3, $4) AS processed",
        [
            event.id.as_str().into(),
            event.kind.as_str().into(),
            event.created.into(),
            event.payload.clone().into(),
        ],
    );
    let processed = value_of(&session, "processed", receive).await?;
    session.commit().await?;
    Ok(processed)
}

/// Applies a stored event. A failure is stored with the event.
///
/// # Errors
///
/// Fails when the event cannot be applied. A later attempt may succeed.
pub async fn apply(
    databases: &Databases,
    settings: &Settings,
    id: &str,
    reason: Reason,
) -> Result<Outcome> {
    let outcome = try_apply(databases, settings, id, reason).await;
    if let Err(error) = &outcome {
        // If the database caused the failure, this cannot succeed either.
        let stored = async {
            let session = open_system(databases, settings, None, reason, Access::Write).await?;
            finish(&session, id, Some(&error.cause()), false).await?;
            session.commit().await
        };
        if let Err(second) = stored.await {
            tracing::warn!(event = id, error = %second, "the failure of a Stripe event could not be stored");
        }
    }
    outcome
}

async fn try_apply(
    databases: &Databases,
    settings: &Settings,
    id: &str,
    reason: Reason,
) -> Result<Outcome> {
    let mut answers = Answers::default();
    for _ in 0..MAX_READS {
        let session = open_system(databases, settings, None, reason, Access::Write).await?;
        let is_replay = reason == Reason::BillingReplay;
        let (session, step) = next_step(session, id, is_replay, &answers).await?;
        match step {
            Step::Done(outcome) => {
                session.commit().await?;
                return Ok(outcome);
            }
            // Stripe may respond slowly, so no lock and no connection is held while it is asked.
            Step::AskOwner(customer) => {
                drop(session);
                answers.owner = Some(Owner(stripe(settings)?.organization_of(&customer).await?));
            }
            Step::Ask(subscription, known, version) => {
                drop(session);
                let known = known.filter(|known| *known != subscription);
                match ask(stripe(settings)?, &subscription, known.as_deref(), version).await {
                    Ok(read) => answers.read = Some(read),
                    // Asking again would not help.
                    Err(stripe::Error::Unreadable(problem)) => {
                        let session =
                            open_system(databases, settings, None, reason, Access::Write).await?;
                        report(&session, id, problem.clone()).await?;
                        session.commit().await?;
                        return Ok(Outcome::Problem(problem));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Step::AskOthers(customer) => {
                drop(session);
                answers.others = Some(stripe(settings)?.subscriptions_of(&customer).await?);
            }
        }
    }
    Err(Error::unavailable("billing changed each time Stripe was asked for its state"))
}

async fn ask(
    stripe: &Stripe,
    subscription: &str,
    known: Option<&str>,
    version: DateTime<Utc>,
) -> stripe::Result<Read> {
    let known = match known {
        Some(known) => stripe.subscription(known).await?,
        None => None,
    };
    Ok(Read { subscription: stripe.subscription(subscription).await?, known, version })
}

fn stripe(settings: &Settings) -> Result<&Stripe> {
    let stripe = settings.area::<BillingSettings>()?.stripe.as_ref();
    stripe.ok_or_else(|| Error::internal("BILLING_PROVIDER is not stripe"))
}

/// Claims an event until the end of the transaction, and applies it in its organization. Returns
/// the session, which is then in that organization, and what remains to be done.
async fn next_step(
    session: SystemSession,
    id: &str,
    is_replay: bool,
    answers: &Answers,
) -> Result<(SystemSession, Step)> {
    let Some((event, processed)) = claim(&session, id).await? else {
        return Err(Error::NotFound("event"));
    };
    if processed && !is_replay {
        return Ok((session, Step::Done(Outcome::Nothing("it was applied before"))));
    }
    let of_key = stripe(session.settings())?.is_live();
    let subject = event.subject();
    let step = match (of_key, event.is_live) {
        (Some(true), Some(false)) => skip(&session, id, OF_TEST_MODE).await?,
        (Some(false), Some(true)) => report(&session, id, OF_LIVE_MODE.to_owned()).await?,
        _ => match recipient_of(&session, &event, subject.as_ref(), answers).await? {
            Recipient::Organization(organization) => {
                let session = session.enter(organization).await?;
                let step = deliver(&session, id, &event, subject, is_replay, answers).await?;
                return Ok((session, step));
            }
            Recipient::Unknown(customer) => Step::AskOwner(customer),
            Recipient::Foreign(why) => skip(&session, id, why).await?,
            Recipient::Other(named) => {
                let problem =
                    format!("{OTHER_CUSTOMER}; its metadata names the organization {named}");
                report(&session, id, problem).await?
            }
        },
    };
    Ok((session, step))
}

async fn recipient_of(
    session: &SystemSession,
    event: &Event,
    subject: Option<&Subject>,
    answers: &Answers,
) -> Result<Recipient> {
    Ok(match (subject, event.deleted_customer()) {
        (Some(subject), _) => find_recipient(session, subject, answers.owner.as_ref()).await?,
        (None, Some(customer)) => match find_organization(session, &customer, None).await? {
            Some(id) => Recipient::Organization(id),
            None => Recipient::Foreign("foreign customer: no organization has it"),
        },
        (None, None) => Recipient::Foreign("it does not concern a subscription"),
    })
}
