//! Entering an organization that a request does not name: a new one, or one to which the caller is
//! invited. Background work may enter any. An organization in a dedicated database is entered in a
//! new transaction there.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use entity::{InvitationId, OrgRole, OrganizationId, UserId};
use pg::{Parameters, Row};
use sea_orm::Values;

use super::{
    Access, Databases, InvitationKey, Tenant, Transaction,
    dedicated::DedicatedDatabase,
    placement::{ELSEWHERE, Placement},
    placement_routing::{MOST_MOVES, copy_user, settle},
    session_request::{SessionRequest, get, placement_of, tenant},
};
use crate::error::{Error, Result};

/// Enters an organization without a user, and returns its placement.
const ENTER: &str =
    "SELECT placement, placement_version, placement_generation FROM auth.enter_organization($1)";

/// Enters a new organization, and returns its id.
const ENTER_NEW: &str = "SELECT auth.enter_new_organization() AS id";

/// The token's hash of an invitation to the user.
const TOKEN_HASH: &str = "SELECT token_hash FROM auth.find_invitations(NULL) WHERE id = $1";

/// Enters the organization of an invitation that the user may accept.
const ENTER_INVITED: &str =
    "SELECT organization_id, invitation_id, placement, placement_version, placement_generation, suspension
    FROM auth.enter_invited_organization($1, $2, $3)";

/// How long background work waits for a dedicated database.
const REMOTE_WAIT: Duration = Duration::from_secs(3);

/// A transaction in a dedicated database.
pub(super) type RemoteTransaction = (Transaction, Arc<DedicatedDatabase>);

/// The result of [`ENTER`].
struct Entered {
    placement: Placement,
    /// Whether the organization is not in this database.
    elsewhere: bool,
    generation: Option<i64>,
}

fn entered(rows: &[Row], organization: Option<OrganizationId>) -> Result<Entered> {
    let (Some(row), Some(organization)) = (rows.first(), organization) else {
        return Ok(Entered { placement: Placement::Shared, elsewhere: false, generation: None });
    };
    let generation = get(row, "placement_generation")?;
    if get::<&str>(row, "placement")? == ELSEWHERE {
        return Ok(Entered { placement: Placement::Shared, elsewhere: true, generation });
    }
    Ok(Entered { placement: placement_of(row, organization)?, elsewhere: false, generation })
}

/// The parameters of [`ENTER`]. Without an organization it leaves the present one.
fn entering(organization: Option<OrganizationId>) -> Values {
    Values(vec![organization.map(|id| id.0).into()])
}

/// Where an organization was entered.
enum Entry {
    /// In this transaction.
    Here,
    /// In the database with this name, which holds the organization since this generation.
    Database(Arc<str>, Option<i64>),
}

async fn entry(transaction: &mut Transaction, entered: Entered) -> Result<Entry> {
    let Entered { placement, elsewhere, generation } = entered;
    if elsewhere {
        return Err(being_moved());
    }
    match placement {
        Placement::Database(name) => Ok(Entry::Database(name, generation)),
        placement => Ok(transaction.go_to(placement.search_path()).await.map(|()| Entry::Here)?),
    }
}

fn being_moved() -> Error {
    Error::unavailable("the organization is being moved to another database")
}

/// Enters a new organization as its owner, in the control database.
pub(super) async fn enter_new(transaction: &mut Transaction) -> Result<Tenant> {
    let answer = transaction.query(ENTER_NEW, None).await?;
    let row = answer.rows.first();
    let row = row.ok_or_else(|| Error::internal("auth.enter_new_organization returned no row"))?;
    let organization_id = OrganizationId(get(row, "id")?);
    // The request may have named an organization with a dedicated schema.
    transaction.go_to(None).await?;
    Ok(Tenant { organization_id, role: OrgRole::Owner, suspension: None })
}

/// The hash of an invitation's token; `None` if the user has no such invitation. `transaction` is
/// in the control database.
pub(super) async fn token_hash(
    transaction: &Transaction,
    key: &InvitationKey,
) -> Result<Option<Vec<u8>>> {
    match key {
        InvitationKey::TokenHash(hash) => Ok(Some(hash.clone())),
        InvitationKey::Id(id) => {
            let values = Values(vec![id.0.into()]);
            let rows = transaction.query(TOKEN_HASH, Some(values)).await?.rows;
            rows.first().map(|row| get(row, "token_hash")).transpose()
        }
    }
}

/// The token of an invitation and what decides whether it may be accepted.
pub(super) struct Token<'request> {
    /// `None` refers to no invitation.
    pub(super) hash: Option<Vec<u8>>,
    pub(super) now: DateTime<Utc>,
    /// The verified address in the request's token.
    pub(super) email: Option<&'request str>,
}

impl Token<'_> {
    fn parameters(&self) -> Values {
        Values(vec![self.hash.clone().into(), self.now.into(), self.email.into()])
    }
}

/// The result of [`ENTER_INVITED`].
pub(super) enum Invited {
    /// The organization was entered in this transaction.
    Here(Invitation),
    /// The organization lives in this dedicated database, where it was entered.
    Remote(Invitation, Box<RemoteTransaction>),
    /// There is no such invitation, or the organization is suspended. `is_unchanged` means that the
    /// transaction is still in the organization that the request names.
    Refused { error: Error, is_unchanged: bool },
}

/// An invitation whose organization was entered.
pub(super) struct Invitation {
    organization_id: OrganizationId,
    pub(super) id: InvitationId,
}

impl Invitation {
    /// The organization with the rights of a viewer, until the caller has joined it.
    pub(super) fn tenant(&self) -> Tenant {
        let organization_id = self.organization_id;
        Tenant { organization_id, role: OrgRole::Viewer, suspension: None }
    }
}

/// The invitation, or why it cannot be accepted.
fn invitation(rows: &[Row]) -> Result<Result<Invitation, Error>> {
    let Some(row) = rows.first() else { return Ok(Err(Error::NotFound("invitation"))) };
    if get::<Option<&str>>(row, "suspension")?.is_some() {
        return Ok(Err(Error::OrganizationSuspended));
    }
    let organization: Option<uuid::Uuid> = get(row, "organization_id")?;
    let id: Option<uuid::Uuid> = get(row, "invitation_id")?;
    let found = organization.map(OrganizationId).zip(id.map(InvitationId));
    let found = found.map(|(organization_id, id)| Invitation { organization_id, id });
    Ok(found.ok_or(Error::NotFound("invitation")))
}

/// Enters the organization of an invitation. `transaction` is in the control database, which knows
/// the invitations of all organizations. If the organization lives in a dedicated database, the
/// caller is copied there first. That copy stays even if the request fails, so the invitation is
/// checked before.
pub(super) async fn enter_invited(
    databases: &Databases,
    session_request: &SessionRequest,
    user: UserId,
    transaction: &mut Transaction,
    token: &Token<'_>,
) -> Result<Invited> {
    let rows = transaction.query(ENTER_INVITED, Some(token.parameters())).await?.rows;
    let invitation = match invitation(&rows)? {
        Ok(invitation) => invitation,
        Err(error) => {
            let row = rows.first();
            let entered: Option<&str> = row.map(|row| get(row, "placement")).transpose()?.flatten();
            return Ok(Invited::Refused { error, is_unchanged: entered.is_none() });
        }
    };
    let entered = entered(&rows, Some(invitation.organization_id))?;
    let Entry::Database(name, generation) = entry(transaction, entered).await? else {
        return Ok(Invited::Here(invitation));
    };
    let database = databases.database(&name).await?;
    copy_user(databases, &database, user.0).await?;
    let outside = session_request.outside();
    for _ in 0..MOST_MOVES {
        let (requests, system) = (database.requests(), database.system());
        let placement = Placement::Shared.name();
        let (fresh, row) = outside.open(requests, system, Access::Write, None, &placement).await?;
        tenant(&row)?;
        let rows = fresh.query(ENTER_INVITED, Some(token.parameters())).await?.rows;
        if let Err(error) = self::invitation(&rows)? {
            // Accepted or revoked in that database, and not yet synced to the control database.
            return Ok(Invited::Refused { error, is_unchanged: false });
        }
        let there = self::entered(&rows, Some(invitation.organization_id))?;
        if !there.elsewhere {
            fresh.charge(transaction)?;
            return Ok(Invited::Remote(invitation, Box::new((fresh, database))));
        }
        fresh.roll_back().await;
        let generations = (generation, there.generation);
        settle(databases, &database, invitation.organization_id, generations).await?;
    }
    Err(being_moved())
}

/// Enters an organization without a user. Returns a new transaction if the organization lives in a
/// dedicated database, and otherwise continues in this one.
pub(super) async fn enter(
    databases: &Databases,
    transaction: &mut Transaction,
    organization: OrganizationId,
) -> Result<Option<RemoteTransaction>> {
    let answer = transaction.query(ENTER, Some(entering(Some(organization)))).await?;
    let entered = entered(&answer.rows, Some(organization))?;
    let Entry::Database(name, generation) = entry(transaction, entered).await? else {
        return Ok(None);
    };
    let remote = async {
        let database = databases.database(&name).await?;
        for _ in 0..MOST_MOVES {
            let parameters = Parameters::of(Some(entering(Some(organization))))?;
            let (fresh, rows) =
                Transaction::begin(database.system(), Access::Write, None, ENTER, &parameters)
                    .await?;
            let there = self::entered(&rows, Some(organization))?;
            if !there.elsewhere {
                return Ok(Some((fresh, database)));
            }
            fresh.roll_back().await;
            settle(databases, &database, organization, (generation, there.generation)).await?;
        }
        Err(being_moved())
    };
    // Boxed: large, and rarely needed. The timeout matters because this task holds one of the few
    // connections of background work.
    Box::pin(tokio::time::timeout(REMOTE_WAIT, remote)).await.map_err(|_| {
        Error::unavailable("the dedicated database of an organization does not respond")
    })?
}

/// Begins a transaction for background work in a dedicated database, outside any organization.
pub(super) async fn begin_in(
    databases: &Databases,
    access: Access,
    database: &DedicatedDatabase,
) -> Result<Transaction> {
    let parameters = Parameters::of(Some(entering(None)))?;
    let (_, transaction, _) = begin_there(databases, access, database.name(), &parameters).await?;
    Ok(transaction)
}

/// Begins a transaction for background work where the organization lives; without an organization,
/// in the control database.
pub(super) async fn begin_system(
    databases: &Databases,
    access: Access,
    organization: Option<OrganizationId>,
) -> Result<(Transaction, Option<Arc<DedicatedDatabase>>)> {
    let dedicated = databases.dedicated_databases();
    let mut placement = organization.map_or(Placement::Shared, |id| dedicated.guess(id));
    let mut is_guess = true;
    for _ in 0..MOST_MOVES {
        // Sent even without an organization, so that no setting of an earlier transaction applies.
        let parameters = Parameters::of(Some(entering(organization)))?;
        let begun = match &placement {
            Placement::Database(name) => begin_there(databases, access, name, &parameters).await,
            _ => Transaction::begin(databases.system(), access, None, ENTER, &parameters)
                .await
                .map(|(transaction, rows)| (None, transaction, rows))
                .map_err(Error::from),
        };
        let (database, mut transaction, rows) = match begun {
            // The organization may have moved since it was seen there.
            Err(_) if is_guess && matches!(placement, Placement::Database(_)) => {
                (is_guess, placement) = (false, Placement::Shared);
                continue;
            }
            begun => begun?,
        };
        is_guess = false;
        let mut there = entered(&rows, organization)?;
        if let (Placement::Shared | Placement::Schema(_), false) =
            (&there.placement, there.elsewhere)
        {
            transaction.go_to(there.placement.search_path()).await?;
            return Ok((transaction, database));
        }
        transaction.roll_back().await;
        if let (Some(database), Some(organization)) = (database, organization) {
            let values = Some(entering(Some(organization)));
            let rows = databases.ask_control(Access::Read, ENTER, values).await?;
            let ours = entered(&rows, Some(organization))?;
            if ours.placement == placement {
                let generations = (ours.generation, there.generation);
                settle(databases, &database, organization, generations).await?;
            }
            there = ours;
        }
        if let Some(organization) = organization {
            dedicated.remember(organization, &there.placement);
        }
        placement = there.placement;
    }
    Err(being_moved())
}

async fn begin_there(
    databases: &Databases,
    access: Access,
    name: &str,
    parameters: &Parameters,
) -> Result<(Option<Arc<DedicatedDatabase>>, Transaction, Vec<Row>)> {
    let database = databases.database_for_system(name).await?;
    let begun = Transaction::begin(database.system(), access, None, ENTER, parameters).await;
    database.answered(begun.is_ok());
    let (transaction, rows) = begun?;
    Ok((Some(database), transaction, rows))
}
