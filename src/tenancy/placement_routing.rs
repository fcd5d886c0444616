//! Routing: begins a transaction at the placement where an organization was last, and follows the
//! organization if it has moved.

use std::sync::Arc;

use entity::OrganizationId;
use pg::{Parameters, Row};
use sea_orm::Values;

use super::{
    Access, Databases, Transaction,
    dedicated::DedicatedDatabase,
    destination::Search,
    placement::Placement,
    pool_query::query_once,
    session_request::{SessionRequest, elsewhere, get, placement_of},
};
use crate::error::{Error, Result};

const USER_COPY: &str = "SELECT auth.read_user($1)::text AS copy";
const STORE_USER: &str = "SELECT auth.copy_user($1::text::jsonb)";

/// The maximum number of tries. Moves are rare, and each takes at most two.
pub(super) const MOST_MOVES: usize = 5;

/// A transaction and the row of its opening.
pub(super) struct OpenedTransaction {
    pub(super) transaction: Transaction,
    pub(super) row: Row,
    /// The organization's placement; the shared tables if the opening was refused.
    pub(super) placement: Placement,
    /// The dedicated database, if the transaction is not in the control database.
    pub(super) database: Option<Arc<DedicatedDatabase>>,
}

/// The result of looking in one placement.
enum Lookup {
    OpenedTransaction(Box<OpenedTransaction>),
    /// Look at this placement next.
    Placement(Placement),
}

/// Begins where the organization lives, first at `placement`.
pub(super) async fn begin(
    databases: &Databases,
    access: Access,
    session_request: &SessionRequest,
    mut placement: Placement,
    search: Search,
) -> Result<OpenedTransaction> {
    let mut copied = false;
    for _ in 0..MOST_MOVES {
        if let (Placement::Database(name), Search::Everywhere) = (&placement, search) {
            let look = look_in_database(databases, access, session_request, name, &mut copied);
            // Boxed: large, and every request would carry it.
            match Box::pin(look).await? {
                Lookup::OpenedTransaction(begun) => return Ok(*begun),
                Lookup::Placement(found) => placement = found,
            }
            continue;
        }
        let (requests, system) = (databases.requests(), databases.system());
        let (transaction, row) = session_request
            .open(requests, system, access, placement.search_path(), &placement.name())
            .await?;
        let Some(found) = elsewhere(&row, &placement)? else {
            return Ok(OpenedTransaction { transaction, row, placement, database: None });
        };
        Box::pin(transaction.roll_back()).await;
        placement = found;
    }
    Err(Error::unavailable("the organization is being moved to another database"))
}

/// Looks in a dedicated database. If it refuses, the control database decides: the user may be new
/// there, or the organization moved, or in the middle of a move.
async fn look_in_database(
    databases: &Databases,
    access: Access,
    session_request: &SessionRequest,
    name: &Arc<str>,
    copied: &mut bool,
) -> Result<Lookup> {
    let there = async {
        let database = databases.database(name).await?;
        let (requests, system) = (database.requests(), database.system());
        let placement = Placement::Shared.name();
        let asked = session_request.open(requests, system, access, None, &placement).await?;
        Ok::<_, Error>((database, asked))
    };
    let there = match there.await {
        // The dedicated database knows the suspension as well, so both answers are final.
        Ok((database, (transaction, row)))
            if ["OK", "ORGANIZATION_SUSPENDED"].contains(&get(&row, "outcome")?) =>
        {
            let (placement, database) = (Placement::Database(Arc::clone(name)), Some(database));
            return Ok(Lookup::OpenedTransaction(Box::new(OpenedTransaction {
                transaction,
                row,
                placement,
                database,
            })));
        }
        Ok((database, (transaction, row))) => {
            transaction.roll_back().await;
            Ok((database, row))
        }
        // The organization may have moved.
        Err(error) => Err(error),
    };
    // No placement has an empty name, so this opens nothing.
    let (requests, system) = (databases.requests(), databases.system());
    let (transaction, row) = match session_request.open(requests, system, access, None, "").await {
        // The token cannot be recorded now, so it changes nothing.
        Err(error @ Error::Unavailable(_)) => {
            return unrecorded(session_request, access, name, there?).await?.ok_or(error);
        }
        asked => asked?,
    };
    if get::<&str>(&row, "outcome")? != "OTHER_PLACEMENT" {
        return Ok(refused(transaction, row));
    }
    let organization = OrganizationId(get(&row, "organization_id")?);
    let placement = placement_of(&row, organization)?;
    if placement != Placement::Database(Arc::clone(name)) {
        transaction.roll_back().await;
        return Ok(Lookup::Placement(placement));
    }
    let (database, there) = there?;
    if get::<&str>(&there, "outcome")? == "OTHER_PLACEMENT" {
        transaction.roll_back().await;
        let generations =
            (get(&row, "placement_generation")?, get(&there, "placement_generation")?);
        settle(databases, &database, organization, generations).await?;
        return Ok(Lookup::Placement(placement));
    }
    if *copied {
        // The database has the user by now, so its refusal is final.
        return Ok(refused(transaction, there));
    }
    transaction.roll_back().await;
    copy_user(databases, &database, get(&row, "user_id")?).await?;
    *copied = true;
    Ok(Lookup::Placement(placement))
}

/// Begins in the database that has answered, where it needs the control database only to record a
/// newer token.
async fn unrecorded(
    session_request: &SessionRequest,
    access: Access,
    name: &Arc<str>,
    (database, row): (Arc<DedicatedDatabase>, Row),
) -> Result<Option<Lookup>> {
    if get::<&str>(&row, "outcome")? != "STALE_IDENTITY" {
        return Ok(None);
    }
    let (requests, system, placement) =
        (database.requests(), database.system(), Placement::Shared.name());
    let asked =
        session_request.unrecorded().open(requests, system, access, None, &placement).await?;
    let (transaction, row) = asked;
    let placement = Placement::Database(Arc::clone(name));
    let begun = OpenedTransaction { transaction, row, placement, database: Some(database) };
    Ok((get::<&str>(&begun.row, "outcome")? == "OK")
        .then(|| Lookup::OpenedTransaction(Box::new(begun))))
}

fn refused(transaction: Transaction, row: Row) -> Lookup {
    Lookup::OpenedTransaction(Box::new(OpenedTransaction {
        transaction,
        row,
        placement: Placement::Shared,
        database: None,
    }))
}

/// Copies a user to a dedicated database. The transaction locks the user until the copy is stored.
pub(super) async fn copy_user(
    databases: &Databases,
    database: &DedicatedDatabase,
    user: uuid::Uuid,
) -> Result<()> {
    let parameters = Parameters::of(Some(Values(vec![user.into()])))?;
    let (control, rows) =
        Transaction::begin(databases.upkeep(), Access::Write, None, USER_COPY, &parameters).await?;
    if let Some(copy) = user_copy(&rows)? {
        // Holders of an upkeep connection must not wait for another connection to the control
        // database.
        let values = Some(Values(vec![copy.into()]));
        query_once(database.system(), Access::Write, STORE_USER, values).await?;
    }
    control.roll_back().await;
    Ok(())
}

fn user_copy(rows: &[Row]) -> Result<Option<String>> {
    let copy = rows.first().map(|row| row.try_get("copy")).transpose();
    Ok(copy?.flatten())
}

/// Completes a move that was interrupted between its two commits. The organization's rows were
/// copied before the first commit, so any server may do this, repeatedly.
pub(super) async fn settle(
    databases: &Databases,
    database: &DedicatedDatabase,
    organization: OrganizationId,
    (ours, theirs): (Option<i64>, Option<i64>),
) -> Result<()> {
    let name = database.name();
    let values = |generation: i64| Some(Values(vec![organization.0.into(), generation.into()]));
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if theirs == ours => {
            tracing::info!(organization = %organization.0, database = %name, "completing a move into a dedicated database");
            let accept = "SELECT app.accept_organization($1, $2)";
            database.query_once(Access::Write, accept, values(ours)).await?;
            Ok(())
        }
        (Some(ours), Some(theirs)) if theirs == ours + 1 => {
            tracing::info!(organization = %organization.0, database = %name, "completing a move out of a dedicated database");
            let reclaim = "SELECT app.accept_organization($1, $2)";
            databases.ask_control(Access::Write, reclaim, values(theirs)).await?;
            Ok(())
        }
        _ => Err(Error::unavailable(format!(
            "the organization {} should be in the database {name} and is not there",
            organization.0
        ))),
    }
}
