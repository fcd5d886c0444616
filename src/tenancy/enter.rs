//! Entering an organization that a request does not name: a new one, or one to which the caller is
//! invited. Background work may enter any. An organization in a dedicated database is entered in a
//! new transaction there.

use std::sync::Arc;

use entity::{OrgRole, OrganizationId, UserId};
use sea_orm::Values;

use super::{
    Access, Databases, InvitationKey, Tenant, Transaction,
    dedicated::{Begun, Remote},
    entry::{ENTER, ENTER_INVITED, Entered, Invitation, MOST_MOVES, Token, being_moved, entering},
    session_request::{SessionRequest, get},
};
use crate::error::{Error, Result};

/// Enters a new organization, and returns its id.
const ENTER_NEW: &str = "SELECT auth.enter_new_organization() AS id";

/// The token's hash of an invitation to the user.
const TOKEN_HASH: &str = "SELECT token_hash FROM auth.find_invitations(NULL) WHERE id = $1";

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

/// The result of [`enter_invited`].
pub(super) enum Invited {
    /// The organization was entered: in this transaction or, if it lives in a dedicated database,
    /// in a new one there.
    Entered(Invitation, Option<Box<Begun>>),
    /// There is no such invitation, or the organization is suspended. `is_unchanged` means that the
    /// transaction is still in the organization that the request names.
    Refused { error: Error, is_unchanged: bool },
}

/// Enters the organization of an invitation. `transaction` is in the control database, which knows
/// the invitations of all organizations.
pub(super) async fn enter_invited(
    databases: &Databases,
    session_request: &SessionRequest,
    user: UserId,
    transaction: &mut Transaction,
    token: &Token<'_>,
) -> Result<Invited> {
    let rows = transaction.query(ENTER_INVITED, Some(token.parameters())).await?.rows;
    let invitation = match Invitation::read(&rows)? {
        Ok(invitation) => invitation,
        Err(error) => {
            let row = rows.first();
            let entered: Option<&str> = row.map(|row| get(row, "placement")).transpose()?.flatten();
            return Ok(Invited::Refused { error, is_unchanged: entered.is_none() });
        }
    };
    let organization = invitation.organization_id;
    let entered = Entered::read(&rows, Some(organization))?;
    let Some((name, generation)) = follow(transaction, entered).await? else {
        return Ok(Invited::Entered(invitation, None));
    };
    let (dedicated, caller) = (databases.dedicated(&name)?, (user, token));
    let place = (&*name, generation);
    match dedicated.enter_invited(session_request, caller, organization, place).await? {
        Ok(there) => {
            there.0.charge(transaction)?;
            Ok(Invited::Entered(invitation, Some(Box::new(there))))
        }
        Err(error) => Ok(Invited::Refused { error, is_unchanged: false }),
    }
}

/// Continues in the organization that was entered. Returns its dedicated database if it has one,
/// and since which generation.
async fn follow(
    transaction: &mut Transaction,
    entered: Entered,
) -> Result<Option<(Arc<str>, Option<i64>)>> {
    match entered {
        Entered::Here(placement) => {
            transaction.go_to(placement.search_path()).await?;
            Ok(None)
        }
        Entered::Database(name, generation) => Ok(Some((name, generation))),
        Entered::Elsewhere(_) => Err(being_moved()),
    }
}

/// Enters an organization without a user. Returns a new transaction if the organization lives in a
/// dedicated database, and otherwise continues in this one.
pub(super) async fn enter(
    databases: &Databases,
    transaction: &mut Transaction,
    organization: OrganizationId,
) -> Result<Option<Begun>> {
    let values = Values(vec![organization.0.into()]);
    let rows = transaction.query(ENTER, Some(values)).await?.rows;
    let entered = Entered::read(&rows, Some(organization))?;
    let Some((name, generation)) = follow(transaction, entered).await? else { return Ok(None) };
    // Boxed: large, and rarely needed.
    Box::pin(databases.dedicated(&name)?.enter(organization, (&name, generation))).await.map(Some)
}

/// Begins a transaction for background work where the organization lives; without an organization,
/// in the control database.
pub(super) async fn begin_system(
    databases: &Databases,
    access: Access,
    organization: Option<OrganizationId>,
) -> Result<(Transaction, Option<Remote>)> {
    if let (Some(dedicated), Some(organization)) = (databases.dedicated_databases(), organization)
        && let Some((transaction, remote)) = dedicated.begin_last_seen(access, organization).await
    {
        return Ok((transaction, Some(remote)));
    }
    for _ in 0..MOST_MOVES {
        // Sent even without an organization, so that no setting of an earlier transaction applies.
        let parameters = entering(organization)?;
        let (mut transaction, rows) =
            Transaction::begin(&databases.system, access, None, ENTER, &parameters).await?;
        let entered = Entered::read(&rows, organization)?;
        let place = follow(&mut transaction, entered).await?;
        let Some(((name, generation), organization)) = place.zip(organization) else {
            return Ok((transaction, None));
        };
        transaction.roll_back().await;
        let dedicated = databases.dedicated(&name)?;
        // Boxed: large, and rarely needed.
        let found = Box::pin(dedicated.find(access, organization, (&name, generation))).await?;
        if let Some((transaction, remote)) = found {
            return Ok((transaction, Some(remote)));
        }
    }
    Err(being_moved())
}
