//! Opens a session: one message begins the transaction, resolves caller and organization, and
//! applies the settings. Only this module creates a [`Session`].

use std::{net::IpAddr, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
use pg::{FromSql, Parameters, Row};
use sea_orm::{Value, Values};
use uuid::Uuid;

use super::{
    Access, Databases, Freshness, Session, Settings, Tenant, Transaction, Viewer,
    placement::Placement,
    placement_routing::{OpenedTransaction, begin, begin_speculative, elsewhere},
    proof::ProofKey,
    remote::Remote,
    session_cache::{CachedContext, ERASED, SessionContext, tenant},
    session_request::{OPEN, SessionRequest, issued_micros},
};
use crate::{
    auth::Caller,
    error::{Error, Result},
};

/// The organization that a request addresses, and where the request comes from.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The slug in the path.
    pub slug: Option<String>,
    /// The client's address, for the audit log.
    pub client_ip: Option<IpAddr>,
}

/// An opened session, and what the caller of [`open`] needs to know about it.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// The current slug, if the request used a retired one.
    pub moved_to: Option<String>,
    /// When the organization's billing last changed. Results computed from earlier billing data are
    /// outdated.
    pub billing_version: Option<DateTime<Utc>>,
    /// Whether the replica serves the session.
    pub at_replica: bool,
}

/// How a session was opened, for opening another transaction in the same way.
#[derive(Debug)]
pub(super) struct Opening {
    databases: Databases,
    access: Access,
    session_request: SessionRequest,
    /// The cached context of a speculative session, which the database has to confirm.
    cached: Option<Arc<CachedContext>>,
}

impl Opening {
    /// Waits until the database confirms or refutes the cached context.
    pub(super) async fn is_confirmed(&self, transaction: &Transaction) -> Result<bool> {
        let Some(cached) = &self.cached else {
            return Ok(true);
        };
        let is_so = match transaction.first_answer().await {
            Some(Ok(rows)) => Ok(rows.first().is_some_and(|row| cached.is_so(row))),
            None => Ok(false),
            // The connection was dead, so nothing was executed on it.
            Some(Err(error)) if error.is_lost() => Ok(false),
            Some(Err(error)) => Err(error.into()),
        };
        if !matches!(is_so, Ok(true)) {
            self.databases.session_cache().remove(&self.session_request);
        }
        is_so
    }

    pub(super) fn is_speculative(&self) -> bool {
        self.cached.is_some()
    }

    /// Begins a new transaction for a session whose last one is finished. Returns the caller's
    /// present tenant.
    pub(super) async fn again(
        &self,
        transaction: &Transaction,
        remote: &Remote,
    ) -> Result<Option<Tenant>> {
        let request = self.session_request.unrecorded();
        let begun = begin(&self.databases, self.access, &request, false).await?;
        transaction.replace(&begun.transaction);
        remote.set(begun.database);
        tenant(&begun.row)
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    pub(super) fn identity(&self) -> (&str, &str) {
        self.session_request.identity()
    }

    pub(super) fn databases(&self) -> &Databases {
        &self.databases
    }

    pub(super) fn session_request(&self) -> &SessionRequest {
        &self.session_request
    }

    /// Runs a statement in the control database, in a separate transaction as the same user and
    /// outside any organization. Its cost is charged to the session's budget.
    pub(super) async fn ask_control(
        &self,
        session: &Transaction,
        access: Access,
        sql: &str,
        values: Option<Values>,
    ) -> Result<Vec<Row>> {
        let session_request = self.session_request.outside();
        let control = self.databases.control();
        let system = self.databases.system();
        let placement = Placement::Shared.name();
        let (transaction, row) =
            session_request.open(control, system, access, None, &placement).await?;
        tenant(&row)?;
        session.share_budget(&transaction);
        let answer = transaction.query(sql, values).await;
        session.charge(&transaction)?;
        let answer = answer?;
        match access {
            Access::Read => transaction.release(),
            Access::Write => transaction.commit().await?,
        }
        Ok(answer.rows)
    }
}

/// Where to open a session, if not where the organization lives.
#[derive(Clone, Copy, Debug)]
pub enum Preference {
    /// Where the organization lives.
    Placement,
    /// Where the organization lives. A query starts from the cached context of the caller's last
    /// session; no result may be sent before [`Session::is_confirmed`].
    Speculative,
    /// At a replica that is fresh enough, for queries.
    Replica(Freshness),
    /// In the control database, because the mutation leads to another organization.
    Control,
}

/// How long a query waits until its token is recorded.
const RECORD_WAIT: Duration = Duration::from_secs(2);

/// Opens a session for a caller. Creates the user of a new identity first, and updates one whose
/// e-mail address has changed. Queries may be opened at a replica that is fresh enough.
///
/// # Errors
///
/// When the caller has no access to the organization, or the database cannot be reached.
pub async fn open(
    databases: &Databases,
    settings: &Settings,
    caller: &Caller,
    destination: &Destination,
    access: Access,
    preference: Preference,
) -> Result<Opened> {
    let secret = &settings.business.secret_keys;
    let mut session_request = SessionRequest::new(caller, destination.slug.as_deref(), secret);
    if let (Access::Read, Preference::Speculative) = (access, preference)
        && let Some(cached) = databases.session_cache().get(&session_request)
        && let Some((transaction, database)) =
            begin_speculative(databases, &session_request, &cached.placement).await?
    {
        let entry = cached.entry.clone();
        let opening =
            Opening { databases: databases.clone(), access, session_request, cached: Some(cached) };
        let way = Way { transaction, remote: Remote::new(database), at_replica: false };
        return Ok(opened(settings, caller, destination, entry, way, opening));
    }
    let stale = match (access, databases.replica(), preference) {
        (Access::Read, Some(replica), Preference::Replica(freshness)) => {
            // The replica of the control database has no rows of a dedicated database, only its
            // name.
            let placement = databases
                .placement_cache()
                .guess(session_request.name())
                .unless_dedicated_database();
            let parameters = session_request.parameters(&placement.name())?;
            let begun = replica.begin(freshness, &placement, OPEN, &parameters).await;
            begun.filter(|(_, row)| matches!(elsewhere(row, &placement), Ok(None)))
        }
        _ => None,
    };
    let at_replica = stale.is_some();
    let at_control = matches!(preference, Preference::Control);
    let mut begun = match stale {
        Some((transaction, row)) => {
            OpenedTransaction { transaction, row, placement: Placement::Shared, database: None }
        }
        None => begin(databases, access, &session_request, at_control).await?,
    };
    let is_stale = get::<&str>(&begun.row, "outcome")? == "STALE_IDENTITY";
    if is_stale || get::<&str>(&begun.row, "outcome")? == "UNKNOWN_IDENTITY" {
        // Boxed: large, and rarely needed.
        begun = Box::pin(async {
            begun.transaction.roll_back().await;
            let key = ProofKey::of(secret);
            let recording = provision(databases, settings, caller, &key);
            if is_stale && access == Access::Read {
                // Queries do not depend on a change: an unrecorded token changes nothing.
                match tokio::time::timeout(RECORD_WAIT, recording).await {
                    Ok(Ok(())) => databases.users_changed().notify_one(),
                    Ok(Err(error @ (Error::Unauthenticated(_) | Error::Internal(_)))) => {
                        return Err(error);
                    }
                    Ok(Err(_)) | Err(_) => session_request = session_request.unrecorded(),
                }
            } else {
                recording.await?;
                databases.users_changed().notify_one();
            }
            begin(databases, access, &session_request, at_control).await
        })
        .await?;
    }
    let OpenedTransaction { transaction, row, placement, database } = begun;
    let entry = SessionContext::read(&row)?;
    if access == Access::Read && !at_replica {
        databases
            .session_cache()
            .insert(&session_request, CachedContext { entry: entry.clone(), placement });
    }
    if databases.replica().is_some() && access == Access::Write && database.is_none() {
        transaction.want_lsn();
    }
    let opening = Opening { databases: databases.clone(), access, session_request, cached: None };
    let way = Way { transaction, remote: Remote::new(database), at_replica };
    Ok(opened(settings, caller, destination, entry, way, opening))
}

/// A transaction, and the database that serves it.
struct Way {
    transaction: Transaction,
    remote: Remote,
    at_replica: bool,
}

fn opened(
    settings: &Settings,
    caller: &Caller,
    destination: &Destination,
    entry: SessionContext,
    Way { transaction, remote, at_replica }: Way,
    opening: Opening,
) -> Opened {
    let SessionContext { user_id, tenant, organization, billing_version, email_is_current } = entry;
    // A claim with an organization's id does not name a slug.
    let by_claim = caller.organization.as_ref().filter(|claim| Uuid::try_parse(claim).is_err());
    let asked = destination.slug.as_ref().or(by_claim);
    let slug = organization.as_ref().map(|organization| organization.slug.clone());
    let moved_to = slug.filter(|current| asked.is_some_and(|asked| asked != current));
    let verified_email = caller.email.clone().filter(|_| email_is_current);
    let viewer = Viewer { user_id, verified_email, client_ip: destination.client_ip };
    // Mutations read the organization again under their locks.
    let organization = organization.filter(|_| opening.access == Access::Read);
    let opening = Box::new(opening);
    let session =
        Session::new(transaction, remote, viewer, tenant, organization, settings, opening);
    // A replica's older version would look like a change to the meter.
    let billing_version = billing_version.filter(|_| !at_replica);
    Opened { session, moved_to, billing_version, at_replica }
}

/// Creates or updates a user in a separate transaction, so that a failing request keeps it.
async fn provision(
    databases: &Databases,
    settings: &Settings,
    caller: &Caller,
    key: &ProofKey,
) -> Result<()> {
    let Caller { issuer, subject, email, name, issued_at, .. } = caller;
    let issued_at = issued_at.map(|at| at.trunc_subsecs(6));
    let linking = settings.business.account_linking.name();
    let micros = issued_micros(issued_at);
    let [issuer, subject, email, name] =
        [Some(issuer.as_str()), Some(subject), email.as_deref(), name.as_deref()];
    let proof =
        key.prove("provision", &[issuer, subject, email, name, micros.as_deref(), Some(linking)]);
    let mut values: Vec<Value> = [issuer, subject, email, name].map(Into::into).into();
    values.extend([issued_at.into(), linking.into()]);
    values.extend(proof);
    let (transaction, rows) = Transaction::begin(
        databases.requests(),
        Access::Write,
        None,
        "SELECT auth.provision_user($1, $2, $3, $4, $5, $6, $7, $8) AS user_id",
        &Parameters::of(Some(Values(values)))?,
    )
    .await?;
    let user: Option<Uuid> = rows.first().map(|row| get(row, "user_id")).transpose()?.flatten();
    if user.is_none() {
        transaction.roll_back().await;
        return Err(ERASED);
    }
    Ok(transaction.commit().await?)
}

pub(super) fn get<'row, T: FromSql<'row>>(row: &'row Row, column: &str) -> Result<T> {
    Ok(row.try_get(column)?)
}
