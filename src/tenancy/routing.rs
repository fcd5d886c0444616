//! The way to an organization: begins where it was last found, and goes after it when it has moved.

use std::sync::Arc;

use entity::OrganizationId;
use sea_orm::Values;
use tokio_postgres::Row;

use super::{
    Access, Databases, Transaction,
    dedicated::{DedicatedDatabase, ask},
    driver::{Parameters, failed},
    open::get,
    placement::Placement,
    session_request::SessionRequest,
};
use crate::error::{Error, Result};

const COPY_OF_PERSON: &str = "SELECT auth.copy_of_person($1)::text AS person";
const BRING_PERSON: &str = "SELECT auth.bring_person($1::text::jsonb)";

/// An organization moves once in a while, and each move may be found in two steps.
pub(super) const MOST_MOVES: usize = 5;

/// A transaction that was begun, and what the opening said.
pub(super) struct OpenedTransaction {
    pub(super) transaction: Transaction,
    pub(super) row: Row,
    /// Where the organization lives, if it is known who may be there.
    pub(super) placement: Placement,
    /// Where it is, if not in the control database.
    pub(super) database: Option<Arc<DedicatedDatabase>>,
}

/// What came of looking in one place.
enum Lookup {
    OpenedTransaction(Box<OpenedTransaction>),
    /// Look there.
    Placement(Placement),
}

/// Begins where the organization lives; or in the control database all the same, if what follows
/// leads away from the organization.
pub(super) async fn begin(
    databases: &Databases,
    access: Access,
    session_request: &SessionRequest,
    at_control: bool,
) -> Result<OpenedTransaction> {
    let mut placement = databases.placement_cache().guess(session_request.name());
    let mut brought = false;
    for _ in 0..MOST_MOVES {
        if let (Placement::Database(name), false) = (&placement, at_control) {
            let look = look_in_database(databases, access, session_request, name, &mut brought);
            // Large, and every request would carry it.
            match Box::pin(look).await? {
                Lookup::OpenedTransaction(begun) => return Ok(*begun),
                Lookup::Placement(found) => placement = found,
            }
            continue;
        }
        let (requests, system) = (databases.requests(), databases.system());
        let (transaction, row) = session_request
            .ask(requests, system, access, placement.schema(), &placement.name())
            .await?;
        let Some(found) = elsewhere(&row, &placement)? else {
            return Ok(OpenedTransaction { transaction, row, placement, database: None });
        };
        Box::pin(transaction.roll_back()).await;
        databases.placement_cache().learn(session_request.name().unwrap_or_default(), &found);
        placement = found;
    }
    Err(Error::unavailable("the organization is being moved"))
}

/// Begins where the organization was found last time, and waits for nothing. In a database that
/// cannot be had nothing is begun: it may live elsewhere by now.
pub(super) async fn begin_speculative(
    databases: &Databases,
    session_request: &SessionRequest,
    placement: &Placement,
) -> Result<Option<(Transaction, Option<Arc<DedicatedDatabase>>)>> {
    let Placement::Database(name) = placement else {
        let transaction = session_request.ask_speculative(databases.requests(), placement).await?;
        return Ok(Some((transaction, None)));
    };
    let there = async {
        let database = databases.database(name).await?;
        let transaction = session_request.ask_speculative(database.requests(), placement).await?;
        Ok::<_, Error>((transaction, Some(database)))
    };
    // Large, and every request would carry it.
    let begun = Box::pin(there).await.ok();
    if begun.is_none() {
        databases.session_cache().remove(session_request);
    }
    Ok(begun)
}

/// Where the organization lives, if that is not where it was looked for.
pub(super) fn elsewhere(row: &Row, placement: &Placement) -> Result<Option<Placement>> {
    let outcome: &str = get(row, "outcome")?;
    if outcome != "ELSEWHERE" && (outcome != "OK" || *placement == Placement::Shared) {
        return Ok(None);
    }
    let stored_placement = stored_placement(row, OrganizationId(get(row, "organization_id")?))?;
    Ok((stored_placement != *placement).then_some(stored_placement))
}

pub(super) fn stored_placement(row: &Row, organization: OrganizationId) -> Result<Placement> {
    Placement::parse(get(row, "home")?, get(row, "home_version")?, organization)
}

/// Looks in a database of organizations' own. What that does not let in, the control database is
/// asked about: the person may be new there, the organization may have moved, or be in the midst of
/// it.
async fn look_in_database(
    databases: &Databases,
    access: Access,
    session_request: &SessionRequest,
    name: &Arc<str>,
    brought: &mut bool,
) -> Result<Lookup> {
    let there = async {
        let database = databases.database(name).await?;
        let (requests, system) = (database.requests(), database.system());
        let placement = Placement::Shared.name();
        let asked = session_request.ask(requests, system, access, None, &placement).await?;
        Ok::<_, Error>((database, asked))
    };
    let there = match there.await {
        // Where the organization lives its suspension is known as well.
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
        // It may live elsewhere by now.
        Err(error) => Err(error),
    };
    // No home has this name, so that nothing is opened.
    let (requests, system) = (databases.requests(), databases.system());
    let (transaction, row) = session_request.ask(requests, system, access, None, "").await?;
    if get::<&str>(&row, "outcome")? != "ELSEWHERE" {
        return Ok(refused(transaction, row));
    }
    let organization = OrganizationId(get(&row, "organization_id")?);
    let placement = stored_placement(&row, organization)?;
    if placement != Placement::Database(Arc::clone(name)) {
        transaction.roll_back().await;
        databases.placement_cache().learn(session_request.name().unwrap_or_default(), &placement);
        return Ok(Lookup::Placement(placement));
    }
    let (database, there) = there?;
    if get::<&str>(&there, "outcome")? == "ELSEWHERE" {
        transaction.roll_back().await;
        let generations = (get(&row, "home_generation")?, get(&there, "home_generation")?);
        settle(databases, &database, organization, generations).await?;
        return Ok(Lookup::Placement(placement));
    }
    if *brought {
        // It knows the person by now, and does not let them in.
        return Ok(refused(transaction, there));
    }
    transaction.roll_back().await;
    copy_user(databases, &database, get(&row, "user_id")?).await?;
    *brought = true;
    Ok(Lookup::Placement(placement))
}

fn refused(transaction: Transaction, row: Row) -> Lookup {
    Lookup::OpenedTransaction(Box::new(OpenedTransaction {
        transaction,
        row,
        placement: Placement::Shared,
        database: None,
    }))
}

/// Tells a database who somebody is. They stay as they are until it knows.
pub(super) async fn copy_user(
    databases: &Databases,
    database: &DedicatedDatabase,
    user: uuid::Uuid,
) -> Result<()> {
    let parameters = Parameters::of(Some(Values(vec![user.into()])))?;
    let (control, rows) =
        Transaction::begin(databases.upkeep(), Access::Write, None, COPY_OF_PERSON, &parameters)
            .await?;
    if let Some(copy_of_user) = copy_of_user(&rows)? {
        // Whoever has one of these connections in hand waits for none of the control database.
        let values = Some(Values(vec![copy_of_user.into()]));
        ask(database.system(), Access::Write, BRING_PERSON, values).await?;
    }
    control.roll_back().await;
    Ok(())
}

fn copy_of_user(rows: &[Row]) -> Result<Option<String>> {
    let copy_of_user = rows.first().map(|row| row.try_get("person")).transpose();
    Ok(copy_of_user.map_err(failed)?.flatten())
}

/// Ends a move between the control database and another that was interrupted between the two
/// commits of its switch. Whoever lets an organization go has brought everything to the other side
/// before, so that this may be done by everybody, and more than once.
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
            tracing::info!(organization = %organization.0, database = %name, "the organization arrives");
            let take_in = "SELECT app.take_in($1, $2)";
            database.ask(Access::Write, take_in, values(ours)).await?;
            Ok(())
        }
        (Some(ours), Some(theirs)) if theirs == ours + 1 => {
            tracing::info!(organization = %organization.0, database = %name, "the organization comes back");
            let take_back = "SELECT app.take_back($1, $2)";
            databases.ask_control(Access::Write, take_back, values(theirs)).await?;
            Ok(())
        }
        _ => Err(Error::unavailable(format!(
            "the organization {} is to be in the database {name}, and is not",
            organization.0
        ))),
    }
}
