//! Entering an organization within an open transaction. Background work may enter any organization;
//! a request may enter only one to which its caller is invited. An organization in a dedicated
//! database is entered in a new transaction there.

use std::{sync::Arc, time::Duration};

use entity::{InvitationId, OrganizationId};
use pg::{Parameters, Row};
use sea_orm::Values;

use super::{
    Access, Databases, Transaction,
    dedicated::DedicatedDatabase,
    open::get,
    placement::{ELSEWHERE, Placement},
    placement_routing::{MOST_MOVES, copy_user, placement_of, settle},
    session_cache::tenant,
    session_request::SessionRequest,
};
use crate::error::{Error, Result};

/// Enters an organization without a user, and returns its placement.
const ENTER: &str =
    "SELECT placement, placement_version, placement_generation FROM auth.enter_organization($1)";

/// Enters the organization of an open invitation to the user.
const ENTER_INVITED: &str =
    "SELECT organization_id, invitation_id, placement, placement_version, placement_generation, suspension
    FROM auth.enter_invited_organization($1)";

/// How long background work waits for a dedicated database.
const REMOTE_WAIT: Duration = Duration::from_secs(3);

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

/// A transaction in a dedicated database, in which a session continues.
pub(super) struct RemoteEntry {
    pub(super) transaction: Transaction,
    pub(super) database: Arc<DedicatedDatabase>,
}

/// Where a transaction continues after it has entered an organization.
enum Way {
    /// In this transaction.
    Here,
    /// In the database with this name, which holds the organization since this generation.
    Database(Arc<str>, Option<i64>),
}

async fn way(transaction: &Transaction, entered: Entered) -> Result<Way> {
    let Entered { placement, elsewhere, generation } = entered;
    if elsewhere {
        return Err(Error::unavailable("the organization is being moved to another database"));
    }
    match placement {
        Placement::Database(name) => Ok(Way::Database(name, generation)),
        placement => Ok(transaction.go_to(placement.search_path()).await.map(|()| Way::Here)?),
    }
}

/// Enters an organization without a user. Returns a new transaction if the organization lives in a
/// dedicated database, and otherwise continues in this one.
pub(super) async fn enter(
    databases: &Databases,
    transaction: &Transaction,
    organization: OrganizationId,
) -> Result<Option<RemoteEntry>> {
    let answer = transaction.query(ENTER, Some(entering(Some(organization)))).await?;
    let entered = entered(&answer.rows, Some(organization))?;
    let Way::Database(name, generation) = way(transaction, entered).await? else {
        return Ok(None);
    };
    let remote_entry = async {
        let database = databases.database(&name).await?;
        for _ in 0..MOST_MOVES {
            let parameters = Parameters::of(Some(entering(Some(organization))))?;
            let (fresh, rows) =
                Transaction::begin(database.system(), Access::Write, None, ENTER, &parameters)
                    .await?;
            let there = self::entered(&rows, Some(organization))?;
            if !there.elsewhere {
                return Ok(Some(RemoteEntry { transaction: fresh, database }));
            }
            fresh.roll_back().await;
            settle(databases, &database, organization, (generation, there.generation)).await?;
        }
        Err(Error::unavailable("the organization is being moved to another database"))
    };
    // Boxed: large, and rarely needed. The timeout matters because this task holds one of the few
    // connections of background work.
    Box::pin(tokio::time::timeout(REMOTE_WAIT, remote_entry)).await.map_err(|_| {
        Error::unavailable("the dedicated database of an organization does not respond")
    })?
}

/// An organization that a request entered because its caller is invited.
#[derive(Debug)]
pub struct Invited {
    pub(super) organization_id: OrganizationId,
    token_hash: Vec<u8>,
    invitation_id: InvitationId,
    /// The dedicated database that the organization lives in, and since which generation.
    database: Option<(Arc<str>, Option<i64>)>,
}

impl Invited {
    /// The invitation.
    #[must_use]
    pub fn invitation_id(&self) -> InvitationId {
        self.invitation_id
    }

    /// Whether the organization lives in a dedicated database, of which the control database has
    /// copies of invitations and members.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.database.is_some()
    }

    fn parameters(&self) -> Values {
        Values(vec![self.token_hash.clone().into()])
    }
}

/// Enters the organization of an open invitation to the caller, by the hash of its token. In a
/// dedicated database the organization is entered by [`follow_invited`].
pub(super) async fn enter_invited(
    transaction: &Transaction,
    token_hash: Vec<u8>,
) -> Result<Option<Invited>> {
    let hash = Some(Values(vec![token_hash.clone().into()]));
    let rows = transaction.query(ENTER_INVITED, hash).await?.rows;
    let Some((organization_id, invitation_id)) = invitation(&rows)? else {
        return Ok(None);
    };
    let database = match way(transaction, entered(&rows, Some(organization_id))?).await? {
        Way::Here => None,
        Way::Database(name, generation) => Some((name, generation)),
    };
    Ok(Some(Invited { organization_id, token_hash, invitation_id, database }))
}

/// Copies the caller to the dedicated database that the organization lives in, and enters the
/// organization there; `None` when the invitation is not open there. `user` is the caller, as the
/// control database knows them.
pub(super) async fn follow_invited(
    databases: &Databases,
    session_request: &SessionRequest,
    user: uuid::Uuid,
    invited: &Invited,
) -> Result<Option<RemoteEntry>> {
    let Some((name, generation)) = &invited.database else {
        return Err(Error::internal("the organization lives in the control database"));
    };
    let organization_id = invited.organization_id;
    // Boxed: large, and rarely needed.
    Box::pin(async {
        let database = databases.database(name).await?;
        copy_user(databases, &database, user).await?;
        let outside = session_request.outside();
        for _ in 0..MOST_MOVES {
            let (requests, system) = (database.requests(), database.system());
            let placement = Placement::Shared.name();
            let (fresh, row) =
                outside.open(requests, system, Access::Write, None, &placement).await?;
            tenant(&row)?;
            let rows = fresh.query(ENTER_INVITED, Some(invited.parameters())).await?.rows;
            if invitation(&rows)?.is_none() {
                // Accepted or revoked in that database, and not yet synced to the control database.
                return Ok(None);
            }
            let there = entered(&rows, Some(organization_id))?;
            if !there.elsewhere {
                return Ok(Some(RemoteEntry { transaction: fresh, database }));
            }
            fresh.roll_back().await;
            let generations = (*generation, there.generation);
            settle(databases, &database, organization_id, generations).await?;
        }
        Err(Error::unavailable("the organization is being moved to another database"))
    })
    .await
}

fn invitation(rows: &[Row]) -> Result<Option<(OrganizationId, InvitationId)>> {
    let Some(row) = rows.first() else { return Ok(None) };
    if get::<Option<&str>>(row, "suspension")?.is_some() {
        return Err(Error::OrganizationSuspended);
    }
    let organization: Option<uuid::Uuid> = get(row, "organization_id")?;
    let invitation: Option<uuid::Uuid> = get(row, "invitation_id")?;
    Ok(organization.map(OrganizationId).zip(invitation.map(InvitationId)))
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
    let key = organization.map(|organization| organization.0.to_string());
    let mut placement = databases.placement_cache().guess(key.as_deref());
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
        let (database, transaction, rows) = match begun {
            // The organization may have moved since the placement was cached.
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
        databases.placement_cache().learn(key.as_deref().unwrap_or_default(), &there.placement);
        placement = there.placement;
    }
    Err(Error::unavailable("the organization is being moved to another database"))
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
