//! Routing: begins a transaction at the placement where an organization was last, and follows the
//! organization if it has moved.

use pg::Row;

use super::{
    Access, Databases, Transaction,
    dedicated::{Lookup, Remote},
    destination::Search,
    entry::{MOST_MOVES, being_moved},
    placement::Placement,
    session_request::{SessionRequest, elsewhere},
};
use crate::error::Result;

/// A transaction and the row of its opening.
pub(super) struct OpenedTransaction {
    pub(super) transaction: Transaction,
    pub(super) row: Row,
    /// The organization's placement; the shared tables if the opening was refused.
    pub(super) placement: Placement,
    /// For a transaction in a dedicated database.
    pub(super) remote: Option<Remote>,
}

/// Begins where the organization lives, first at `placement`.
pub(super) async fn begin(
    databases: &Databases,
    access: Access,
    session_request: &SessionRequest,
    mut placement: Placement,
    search: Search,
) -> Result<OpenedTransaction> {
    for _ in 0..MOST_MOVES {
        if let (Placement::Database(name), Search::Everywhere) = (&placement, search) {
            let look = databases.dedicated(name)?.open(access, session_request, name);
            // Boxed: large, and every request would carry it.
            match Box::pin(look).await? {
                Lookup::Opened(opened) => {
                    let (transaction, row, remote) = *opened;
                    let placement = if remote.is_some() { placement } else { Placement::Shared };
                    return Ok(OpenedTransaction { transaction, row, placement, remote });
                }
                Lookup::Moved(found) => placement = found,
            }
            continue;
        }
        let (requests, system) = (&databases.requests, &databases.system);
        let (transaction, row) = session_request
            .open(requests, system, access, placement.search_path(), &placement.name())
            .await?;
        let Some(found) = elsewhere(&row, &placement)? else {
            return Ok(OpenedTransaction { transaction, row, placement, remote: None });
        };
        Box::pin(transaction.roll_back()).await;
        placement = found;
    }
    Err(being_moved())
}
