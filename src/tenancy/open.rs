//! Opening a session: one message begins the transaction, resolves who calls and where, and applies the settings.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use entity::{OrgRole, OrganizationId, UserId, organization};
use sea_orm::{ActiveEnum, Values};
use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use super::{
    Access, Environment, Freshness, Notices, Placement, Session, Tenant, Transaction, Viewer,
    driver::{Parameters, failed},
    home::Home,
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// By name, so that servers of two versions can use one database.
const OPEN: &str =
    "SELECT outcome, user_id, organization_id, organization_slug, role, billing_version,
        organization_name, organization_created_at, organization_updated_at, home, home_version
    FROM auth.open_request($1, $2, $3, $4, $5, $6)";

/// An organization moves once in a while.
const MOST_MOVES: usize = 3;

/// Where a request wants to go, and from where it comes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The slug in the path.
    pub slug: Option<String>,
    /// The client's address, for the audit log.
    pub client_ip: Option<IpAddr>,
}

/// A session, and what the client should know about the way to it.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// The current slug, when the request used a retired one.
    pub moved_to: Option<String>,
    /// When the organization's billing changed last: whatever was worked out from it before is out of date.
    pub billing_version: Option<DateTime<Utc>>,
    /// The replica answers.
    pub at_replica: bool,
}

/// How a session was opened, to open another transaction in the same way.
#[derive(Debug)]
pub(super) struct Opening {
    placement: Placement,
    access: Access,
    question: Question,
}

impl Opening {
    /// Goes on with a finished transaction's name in a new one; answers where the person is now.
    pub(super) async fn again(&self, transaction: &Transaction) -> Result<Option<Tenant>> {
        let (fresh, row) = begin(&self.placement, self.access, &self.question).await?;
        transaction.replace(&fresh);
        tenant(&row)
    }

    pub(super) fn notices(&self) -> &Notices {
        self.placement.notices()
    }
}

/// What the opening asks.
#[derive(Debug)]
struct Question {
    issuer: String,
    subject: String,
    path: Option<String>,
    claim: Option<String>,
    email: Option<String>,
}

impl Question {
    /// NUL, which no text in PostgreSQL can hold, becomes the replacement character, which no slug contains; issuer and subject were
    /// checked by the verifier.
    fn new(caller: &Caller, slug: Option<&str>) -> Self {
        let text = |text: &str| text.replace('\0', "\u{fffd}");
        Self {
            issuer: text(&caller.issuer),
            subject: text(&caller.subject),
            path: slug.map(text),
            claim: caller.organization.as_deref().map(text),
            email: caller.email.as_deref().map(text),
        }
    }

    /// What leads to the organization.
    fn name(&self) -> Option<&str> {
        self.path.as_deref().or(self.claim.as_deref())
    }

    fn parameters(&self, home: &Home) -> Result<Parameters> {
        let texts = [&self.path, &self.claim, &self.email].map(|text| text.as_deref().into());
        let [path, claim, email] = texts;
        let (issuer, subject) = (self.issuer.as_str().into(), self.subject.as_str().into());
        let values = vec![issuer, subject, path, claim, email, home.name().into()];
        Ok(Parameters::of(Some(Values(values)))?)
    }
}

/// Opens a session for a caller; an identity that is seen for the first time is given its user before, and one whose address has
/// changed brings it up to date. What only reads may be opened at a replica that is fresh enough.
///
/// # Errors
///
/// When the caller may not be where the request wants to go, or the database cannot be reached.
pub async fn open(
    placement: &Placement,
    environment: &Environment,
    caller: &Caller,
    destination: &Destination,
    access: Access,
    freshness: Option<Freshness>,
) -> Result<Opened> {
    let question = Question::new(caller, destination.slug.as_deref());
    let stale = match (access, placement.replica(), freshness) {
        (Access::Read, Some(replica), Some(freshness)) => {
            let home = placement.homes().guess(question.name());
            let begun = replica.begin(freshness, &home, OPEN, &question.parameters(&home)?).await;
            begun.filter(|(_, row)| matches!(elsewhere(row, &home), Ok(None)))
        }
        _ => None,
    };
    let at_replica = stale.is_some();
    let (mut transaction, mut row) = match stale {
        Some(begun) => begun,
        None => begin(placement, access, &question).await?,
    };
    if ["UNKNOWN_IDENTITY", "STALE_IDENTITY"].contains(&get(&row, "outcome")?) {
        transaction.roll_back().await;
        provision(placement, caller).await?;
        (transaction, row) = begin(placement, access, &question).await?;
    }
    let tenant = tenant(&row)?;
    let organization = organization(&row)?;
    // An id in the claim does not name a slug.
    let by_claim = caller.organization.as_ref().filter(|claim| Uuid::try_parse(claim).is_err());
    let asked = destination.slug.as_ref().or(by_claim);
    let slug = organization.as_ref().map(|organization| organization.slug.clone());
    let moved_to = slug.filter(|current| asked.is_some_and(|asked| asked != current));
    let viewer = Viewer {
        user_id: UserId(get(&row, "user_id")?),
        verified_email: caller.email.clone(),
        client_ip: destination.client_ip,
    };
    // What is older than others have seen would be taken for news.
    let billing_version = if at_replica { None } else { get(&row, "billing_version")? };
    if placement.replica().is_some() && access == Access::Write {
        transaction.bookmark().want();
    }
    let opening = Box::new(Opening { placement: placement.clone(), access, question });
    // What changes rows reads them anew.
    let organization = organization.filter(|_| access == Access::Read);
    let session = Session::new(transaction, viewer, tenant, organization, environment, opening);
    Ok(Opened { session, moved_to, billing_version, at_replica })
}

/// Begins where the organization was last found, and goes after it when it has moved.
async fn begin(
    placement: &Placement,
    access: Access,
    question: &Question,
) -> Result<(Transaction, Row)> {
    let mut home = placement.homes().guess(question.name());
    for _ in 0..MOST_MOVES {
        let (transaction, mut rows) = Transaction::begin(
            placement.requests(),
            access,
            home.schema(),
            OPEN,
            &question.parameters(&home)?,
        )
        .await?;
        let row =
            rows.pop().ok_or_else(|| Error::internal("opening a session answered nothing"))?;
        let Some(found) = elsewhere(&row, &home)? else {
            return Ok((transaction, row));
        };
        Box::pin(transaction.roll_back()).await;
        placement.homes().learn(question.name().unwrap_or_default(), &found);
        home = found;
    }
    Err(Error::unavailable("the organization is being moved"))
}

/// Where the organization lives, if that is not where it was looked for.
fn elsewhere(row: &Row, home: &Home) -> Result<Option<Home>> {
    let outcome: &str = get(row, "outcome")?;
    if outcome != "ELSEWHERE" && (outcome != "OK" || *home == Home::Shared) {
        return Ok(None);
    }
    let (told, version) = (get(row, "home")?, get(row, "home_version")?);
    let told = Home::told(told, version, OrganizationId(get(row, "organization_id")?))?;
    Ok((told != *home).then_some(told))
}

/// In a transaction of its own, so that a request that goes on to fail does not take the user back.
async fn provision(placement: &Placement, caller: &Caller) -> Result<()> {
    let Caller { issuer, subject, email, name, .. } = caller.clone();
    let values = vec![issuer.into(), subject.into(), email.into(), name.into()];
    let (transaction, _) = Transaction::begin(
        placement.requests(),
        Access::Write,
        None,
        "SELECT auth.provision_user($1, $2, $3, $4)",
        &Parameters::of(Some(Values(values)))?,
    )
    .await?;
    transaction.commit().await
}

/// The organization that the opening message led to.
fn tenant(row: &Row) -> Result<Option<Tenant>> {
    match get(row, "outcome")? {
        "OK" => {}
        "MISMATCH" => return Err(Error::OrganizationMismatch),
        "NOT_FOUND" => return Err(Error::OrganizationNotFound),
        outcome => return Err(Error::internal(format!("opening a session answered {outcome}"))),
    }
    let organization: Option<Uuid> = get(row, "organization_id")?;
    let role: Option<String> = get(row, "role")?;
    Ok(match (organization, role) {
        (Some(organization), Some(role)) => Some(Tenant {
            organization_id: OrganizationId(organization),
            role: OrgRole::try_from_value(&role)?,
        }),
        _ => None,
    })
}

/// Its row.
fn organization(row: &Row) -> Result<Option<organization::Model>> {
    let Some(id) = get(row, "organization_id")? else {
        return Ok(None);
    };
    Ok(Some(organization::Model {
        id: OrganizationId(id),
        name: get(row, "organization_name")?,
        slug: get(row, "organization_slug")?,
        created_at: get(row, "organization_created_at")?,
        updated_at: get(row, "organization_updated_at")?,
    }))
}

fn get<'row, T: FromSql<'row>>(row: &'row Row, column: &str) -> Result<T> {
    Ok(row.try_get(column).map_err(failed)?)
}
