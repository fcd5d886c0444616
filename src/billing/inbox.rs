//! Stripe's events: each is stored first, then applied once, in one transaction with its audit
//! entry. Stripe delivers at least once and in any order, so the server asks Stripe for the current
//! state where times cannot order two events. An event belongs to the organization that has stored
//! its customer. Text that the payer can write never decides this.

use chrono::{DateTime, Utc};
use entity::{OrganizationId, SubscriptionStatus, organization_billing};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use stripe::{Event, Stripe, Subject, Subscription};
use uuid::Uuid;

use super::{
    settings::Settings as BillingSettings,
    subscription_sync::{is_live, record, status, write},
};
use crate::{
    error::{Error, Result},
    plan,
    tenancy::{Access, Databases, Reason, Settings, SystemSession, open_system},
};

/// The reason for skipping an event whose metadata names an organization with another customer.
const OTHER_CUSTOMER: &str = "foreign customer: the organization has another one, or was deleted";

/// How often Stripe is asked about one event while other requests change the same organization.
const MAX_READS: usize = 6;

/// The result of applying an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Billing now matches the event, or a newer state that Stripe reported.
    Applied(OrganizationId),
    /// The event changed nothing, for this reason.
    Nothing(&'static str),
}

/// A subscription as Stripe reported it. It is valid while billing is still at `version`.
struct Read {
    subscription: Subscription,
    /// The stored subscription, if it is a different one.
    known: Option<Subscription>,
    version: DateTime<Utc>,
}

/// The organization that a customer was created for, according to Stripe.
struct Owner(Option<Uuid>);

/// Stripe's answers while one event is processed.
#[derive(Default)]
struct Answers {
    owner: Option<Owner>,
    read: Option<Read>,
}

enum Step {
    Done(Outcome),
    /// Ask Stripe which organization this customer was created for.
    AskOwner(String),
    /// Ask Stripe for this subscription and for the stored one.
    Ask(String, Option<String>, DateTime<Utc>),
}

/// The organization that an event is for.
enum Recipient {
    Organization(OrganizationId),
    Unknown,
    Foreign(&'static str),
}

enum Decision<'event> {
    Write(&'event Subscription),
    Ask,
    Skip(&'static str),
    /// The event cannot be applied yet. Stripe must send it again.
    Wait(&'static str),
}

/// Stores an event before it is applied. Returns whether it was applied earlier.
///
/// # Errors
///
/// Fails when the database fails.
pub async fn receive(databases: &Databases, settings: &Settings, event: &Event) -> Result<bool> {
    let session = open_system(databases, settings, None, Reason::Stripe, Access::Write).await?;
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
    let row = row.ok_or_else(|| Error::internal("storing the event returned no row"))?;
    let processed = row.try_get("", "processed")?;
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
        let (session, step) = match claim_delivery(&session, id, is_replay, &answers).await? {
            Claimed::Delivery(delivery) => {
                let session = session.enter(delivery.organization_id).await?;
                let step = deliver(&session, id, *delivery, &answers).await?;
                (session, step)
            }
            Claimed::Nothing(step) => (session, step),
        };
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
                let stripe = stripe(settings)?;
                let known = match known.filter(|known| *known != subscription) {
                    Some(known) => Some(stripe.subscription(&known).await?),
                    None => None,
                };
                let subscription = stripe.subscription(&subscription).await?;
                answers.read = Some(Read { subscription, known, version });
            }
        }
    }
    Err(Error::unavailable("billing changed each time Stripe was asked for its state"))
}

fn stripe(settings: &Settings) -> Result<&Stripe> {
    let stripe = settings.area::<BillingSettings>()?.stripe.as_ref();
    stripe.ok_or_else(|| Error::internal("BILLING_PROVIDER is not stripe"))
}

/// An event, and the organization to whose billing it applies.
struct Delivery {
    organization_id: OrganizationId,
    event: Event,
    subject: Subject,
}

enum Claimed {
    Delivery(Box<Delivery>),
    /// There is nothing to apply, or not yet.
    Nothing(Step),
}

/// Claims an event until the end of the transaction, and finds its organization.
async fn claim_delivery(
    session: &SystemSession,
    id: &str,
    is_replay: bool,
    answers: &Answers,
) -> Result<Claimed> {
    let Some((event, processed)) = claim(session, id).await? else {
        return Err(Error::NotFound("event"));
    };
    if processed && !is_replay {
        return Ok(Claimed::Nothing(Step::Done(Outcome::Nothing("it was applied before"))));
    }
    let Some(subject) = event.subject() else {
        let skipped = skip(session, id, "it does not concern a subscription").await?;
        return Ok(Claimed::Nothing(skipped));
    };
    Ok(match find_recipient(session, &subject, answers.owner.as_ref()).await? {
        Recipient::Organization(organization_id) => {
            Claimed::Delivery(Box::new(Delivery { organization_id, event, subject }))
        }
        Recipient::Unknown => Claimed::Nothing(Step::AskOwner(subject.customer)),
        Recipient::Foreign(why) => Claimed::Nothing(skip(session, id, why).await?),
    })
}

/// Applies an event to billing, in its organization.
async fn deliver(
    session: &SystemSession,
    id: &str,
    Delivery { organization_id, event, subject }: Delivery,
    answers: &Answers,
) -> Result<Step> {
    let lock = plan::lock_alone(session).await?;
    let before = lock.billing();
    let read = answers.read.as_ref().filter(|read| read.version == before.updated_at);
    let is_theirs = before.stripe_customer_id.as_ref().is_none_or(|c| *c == subject.customer)
        && read.is_none_or(|read| read.subscription.customer == subject.customer);
    if !is_theirs {
        return skip(session, id, OTHER_CUSTOMER).await;
    }
    let shown = subject.state.clone().transpose().map_err(Error::internal)?;
    match decide(before, &event, &subject.subscription, shown.as_ref(), read) {
        Decision::Ask => {
            let known = before.stripe_subscription_id.clone();
            Ok(Step::Ask(subject.subscription, known, before.updated_at))
        }
        Decision::Wait(why) => Err(Error::internal(why)),
        Decision::Skip(why) => skip(session, id, why).await,
        Decision::Write(subscription) => {
            let after = write(session, &lock, subscription, Some(&event)).await?;
            record(session, before, &after, &event).await?;
            finish(session, id, None, true).await?;
            Ok(Step::Done(Outcome::Applied(organization_id)))
        }
    }
}

/// Decides whether an event is new, by the time of the last applied event. That time cannot decide
/// within one second, which is Stripe's precision, nor for another subscription, which has its own
/// history. `shown` is the subscription in the event, `read` is Stripe's answer if it was asked.
fn decide<'event>(
    billing: &organization_billing::Model,
    event: &Event,
    subscription: &str,
    shown: Option<&'event Subscription>,
    read: Option<&'event Read>,
) -> Decision<'event> {
    let current = read.map(|read| &read.subscription);
    let known = read.and_then(|read| read.known.as_ref());
    match &billing.stripe_subscription_id {
        None => current.or(shown).map_or(Decision::Ask, Decision::Write),
        Some(known) if *known == subscription => {
            let order = Some(event.created).cmp(&billing.stripe_event_at);
            if billing.status == SubscriptionStatus::Canceled {
                return Decision::Skip("the subscription has ended permanently");
            }
            match order {
                std::cmp::Ordering::Less => Decision::Skip("a newer event was already applied"),
                std::cmp::Ordering::Equal => current.map_or(Decision::Ask, Decision::Write),
                std::cmp::Ordering::Greater => {
                    current.or(shown).map_or(Decision::Ask, Decision::Write)
                }
            }
        }
        Some(_) => match current {
            None => Decision::Ask,
            Some(current) if !is_live(status(current)) => {
                Decision::Skip("it concerns a subscription that is not the current one")
            }
            // The customer pays for two subscriptions. An operator must end one of them.
            Some(_)
                if is_live(billing.status) && known.is_some_and(|known| is_live(status(known))) =>
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

/// Finds the organization that an event is for. A customer that no organization has stored is bound
/// only if its own metadata names the organization. `owner` is that metadata, read back from
/// Stripe. The metadata of a subscription is only a hint that asking is worthwhile, because the
/// payer can write it.
async fn find_recipient(
    session: &SystemSession,
    subject: &Subject,
    owner: Option<&Owner>,
) -> Result<Recipient> {
    if let Some(id) = find_organization(session, &subject.customer, None).await? {
        return Ok(Recipient::Organization(id));
    }
    let Some(named) = subject.organization else {
        return Ok(Recipient::Foreign("foreign customer: no organization has it"));
    };
    let Some(id) = find_organization(session, &subject.customer, Some(named)).await? else {
        return Ok(Recipient::Foreign(OTHER_CUSTOMER));
    };
    Ok(match owner {
        None => Recipient::Unknown,
        Some(Owner(Some(owner))) if *owner == named => Recipient::Organization(id),
        Some(_) => Recipient::Foreign("foreign customer: it was not created by tenantry"),
    })
}

/// Finds the organization with this customer, or else the named organization if it exists and has
/// no customer.
async fn find_organization(
    session: &SystemSession,
    customer: &str,
    named: Option<Uuid>,
) -> Result<Option<OrganizationId>> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT billing.find_organization($1, $2) AS id",
        [customer.into(), named.into()],
    );
    let row = session.query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "id")).transpose()?.flatten())
}

/// Marks an event as processed without a change, and stores the reason.
async fn skip(session: &SystemSession, id: &str, why: &'static str) -> Result<Step> {
    finish(session, id, Some(why), true).await?;
    Ok(Step::Done(Outcome::Nothing(why)))
}

/// Stores the result of an event. With `done` it is processed, otherwise Stripe must send it again.
async fn finish(session: &SystemSession, id: &str, text: Option<&str>, done: bool) -> Result<()> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT billing.finish_stripe_event($1, $2, $3)",
        [id.into(), text.into(), done.into()],
    );
    session.begun().execute_raw(statement).await?;
    Ok(())
}
