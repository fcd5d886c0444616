//! Sessions of users in a dedicated database.

use std::sync::Arc;

use entity::{OrganizationId, UserId};
use pg::Row;
use uuid::Uuid;

use super::{
    super::{
        Access, Transaction,
        entry::{ENTER_INVITED, Entered, Invitation, MOST_MOVES, Token, being_moved},
        placement::Placement,
        session_request::{OPEN, SessionRequest, get, placement_of, tenant},
    },
    database::DedicatedDatabase,
    databases::{DedicatedDatabases, contradiction},
    remote::{Begun, Remote},
};
use crate::error::{Error, Result};

/// The result of looking for an organization in a dedicated database.
pub enum Lookup {
    /// A transaction and the row of its opening: there, or in the control database if the opening
    /// was refused.
    Opened(Box<(Transaction, Row, Option<Remote>)>),
    /// The organization lives at this placement now.
    Moved(Placement),
}

impl DedicatedDatabases {
    /// Opens a session in a dedicated database, if the organization still lives there.
    pub async fn open(
        self: &Arc<Self>,
        access: Access,
        session_request: &SessionRequest,
        name: &Arc<str>,
    ) -> Result<Lookup> {
        let mut copied = false;
        for _ in 0..MOST_MOVES {
            if let Some(found) = self.try_open(access, session_request, name, &mut copied).await? {
                return Ok(found);
            }
        }
        Err(being_moved())
    }

    /// Tries once. If the database refuses, the control database decides: the user may be new
    /// there, or the organization moved, or in the middle of a move. Returns `None` after that was
    /// settled.
    async fn try_open(
        self: &Arc<Self>,
        access: Access,
        session_request: &SessionRequest,
        name: &Arc<str>,
        copied: &mut bool,
    ) -> Result<Option<Lookup>> {
        let there = match self.open_there(access, session_request, name).await {
            Ok((transaction, row, remote)) => {
                // The database knows the suspension as well, so both answers are final.
                if ["OK", "ORGANIZATION_SUSPENDED"].contains(&outcome(&row)?) {
                    return self.opened(transaction, row, remote).map(Some);
                }
                transaction.roll_back().await;
                Ok((row, remote.database))
            }
            // The organization may have moved.
            Err(error) => Err(error),
        };
        // No placement has an empty name, so this opens nothing.
        let refusal = session_request.open(&self.requests, &self.system, access, None, "").await;
        let error = match refusal {
            Ok(refusal) => return self.resolve_refusal(refusal, there, name, copied).await,
            Err(error @ Error::Unavailable(_)) => error,
            Err(error) => return Err(error),
        };
        // The database needs the control database only to record a newer token. The token cannot be
        // recorded now, so it changes nothing.
        if outcome(&there?.0)? == "STALE_IDENTITY" {
            let request = session_request.unrecorded();
            let (transaction, row, remote) = self.open_there(access, &request, name).await?;
            if outcome(&row)? == "OK" {
                return self.opened(transaction, row, remote).map(Some);
            }
        }
        Err(error)
    }

    /// Follows the answer of the control database, after a dedicated database has refused.
    async fn resolve_refusal(
        &self,
        (transaction, row): (Transaction, Row),
        there: Result<(Row, Arc<DedicatedDatabase>)>,
        name: &Arc<str>,
        copied: &mut bool,
    ) -> Result<Option<Lookup>> {
        if outcome(&row)? != "OTHER_PLACEMENT" {
            return Ok(Some(Lookup::Opened(Box::new((transaction, row, None)))));
        }
        let organization = OrganizationId(get(&row, "organization_id")?);
        let placement = placement_of(&row, organization)?;
        if placement != Placement::Database(Arc::clone(name)) {
            transaction.roll_back().await;
            return Ok(Some(Lookup::Moved(placement)));
        }
        let (refusal, database) = there?;
        if outcome(&refusal)? == "OTHER_PLACEMENT" {
            transaction.roll_back().await;
            let generation = |row| get(row, "placement_generation");
            let generations = (generation(&row)?, generation(&refusal)?);
            self.complete_move(&database, organization, generations).await?;
            return Ok(None);
        }
        if *copied {
            // The database has the user by now, so its refusal is final.
            return Ok(Some(Lookup::Opened(Box::new((transaction, refusal, None)))));
        }
        transaction.roll_back().await;
        self.copy_user(&database, get(&row, "user_id")?).await?;
        *copied = true;
        Ok(None)
    }

    /// Asks a dedicated database. Its organizations are in its shared tables.
    async fn open_there(
        self: &Arc<Self>,
        access: Access,
        session_request: &SessionRequest,
        name: &str,
    ) -> Result<(Transaction, Row, Remote)> {
        let database = self.database(name).await?;
        let (requests, system) = (&database.requests, &database.system);
        let placement = Placement::Shared.name();
        let (transaction, row) =
            session_request.open(requests, system, access, None, &placement).await?;
        Ok((transaction, row, Remote::of(self, database)))
    }

    fn opened(&self, transaction: Transaction, row: Row, remote: Remote) -> Result<Lookup> {
        if let Some(organization) = get::<Option<Uuid>>(&row, "organization_id")? {
            self.remember(OrganizationId(organization), &remote.database.name);
        }
        Ok(Lookup::Opened(Box::new((transaction, row, Some(remote)))))
    }

    /// Begins the session of a query without waiting for the answer to its opening.
    pub async fn begin_speculative(
        self: &Arc<Self>,
        session_request: &SessionRequest,
        name: &str,
    ) -> Result<Begun> {
        let database = self.database(name).await?;
        let parameters = session_request.parameters(&Placement::Shared.name())?;
        let (requests, access) = (&database.requests, Access::Read);
        let begun = Transaction::begin_pipelined(requests, access, None, OPEN, parameters).await?;
        Ok((begun, Remote::of(self, database)))
    }

    /// Enters the organization of an invitation, which lives in this database since `generation`.
    /// The caller is copied there first. That copy stays even if the request fails, so check the
    /// invitation before. Returns an error for the client if the invitation is no longer valid.
    pub async fn enter_invited(
        self: &Arc<Self>,
        session_request: &SessionRequest,
        (user, token): (UserId, &Token<'_>),
        organization: OrganizationId,
        (name, generation): (&str, Option<i64>),
    ) -> Result<Result<Begun, Error>> {
        let database = self.database(name).await?;
        self.copy_user(&database, user.0).await?;
        let outside = session_request.outside();
        for _ in 0..MOST_MOVES {
            let (transaction, row, remote) = self.open_there(Access::Write, &outside, name).await?;
            tenant(&row)?;
            let rows = transaction.query(ENTER_INVITED, Some(token.parameters())).await?.rows;
            if let Err(error) = Invitation::read(&rows)? {
                // Accepted or revoked in that database, and not yet synced to the control database.
                return Ok(Err(error));
            }
            let theirs = match Entered::read(&rows, Some(organization))? {
                Entered::Here(_) => return Ok(Ok((transaction, remote))),
                Entered::Elsewhere(theirs) => theirs,
                Entered::Database(other, _) => return Err(contradiction(name, &other)),
            };
            transaction.roll_back().await;
            self.complete_move(&database, organization, (generation, theirs)).await?;
        }
        Err(being_moved())
    }
}

fn outcome(row: &Row) -> Result<&str> {
    get(row, "outcome")
}
