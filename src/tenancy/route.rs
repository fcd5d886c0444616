//! The way to an organization: begins where it was last found, and goes after it when it has moved.

use std::sync::Arc;

use entity::OrganizationId;
use sea_orm::Values;
use tokio_postgres::Row;

use super::{
    Access, Placement, Transaction,
    dedicated::{Dedicated, ask},
    driver::{Parameters, failed},
    home::Home,
    open::get,
    question::Question,
};
use crate::error::{Error, Result};

const COPY_OF_PERSON: &str = "SELECT auth.copy_of_person($1)::text AS person";
const BRING_PERSON: &str = "SELECT auth.bring_person($1::text::jsonb)";

/// An organization moves once in a while, and each move may be found in two steps.
pub(super) const MOST_MOVES: usize = 5;

/// A transaction that was begun, and what the opening said.
pub(super) struct Begun {
    pub(super) transaction: Transaction,
    pub(super) row: Row,
    /// Where the organization lives, if it is known who may be there.
    pub(super) home: Home,
    /// Where it is, if not in the control database.
    pub(super) database: Option<Arc<Dedicated>>,
}

/// What came of looking in one place.
enum Found {
    Begun(Box<Begun>),
    /// Look there.
    Home(Home),
}

/// Begins where the organization lives; or in the control database all the same, if what follows
/// leads away from the organization.
pub(super) async fn begin(
    placement: &Placement,
    access: Access,
    question: &Question,
    at_control: bool,
) -> Result<Begun> {
    let mut home = placement.homes().guess(question.name());
    let mut brought = false;
    for _ in 0..MOST_MOVES {
        if let (Home::Database(name), false) = (&home, at_control) {
            let look = look_in_database(placement, access, question, name, &mut brought);
            // Large, and every request would carry it.
            match Box::pin(look).await? {
                Found::Begun(begun) => return Ok(*begun),
                Found::Home(found) => home = found,
            }
            continue;
        }
        let (requests, system) = (placement.requests(), placement.system());
        let (transaction, row) =
            question.ask(requests, system, access, home.schema(), &home.name()).await?;
        let Some(found) = elsewhere(&row, &home)? else {
            return Ok(Begun { transaction, row, home, database: None });
        };
        Box::pin(transaction.roll_back()).await;
        placement.homes().learn(question.name().unwrap_or_default(), &found);
        home = found;
    }
    Err(Error::unavailable("the organization is being moved"))
}

/// Begins where the organization was found last time, and waits for nothing. In a database that
/// cannot be had nothing is begun: it may live elsewhere by now.
pub(super) async fn begin_remembered(
    placement: &Placement,
    question: &Question,
    home: &Home,
) -> Result<Option<(Transaction, Option<Arc<Dedicated>>)>> {
    let Home::Database(name) = home else {
        let transaction = question.ask_ahead(placement.requests(), home).await?;
        return Ok(Some((transaction, None)));
    };
    let there = async {
        let database = placement.database(name).await?;
        let transaction = question.ask_ahead(database.requests(), home).await?;
        Ok::<_, Error>((transaction, Some(database)))
    };
    // Large, and every request would carry it.
    let begun = Box::pin(there).await.ok();
    if begun.is_none() {
        placement.openings().forget(question);
    }
    Ok(begun)
}

/// Where the organization lives, if that is not where it was looked for.
pub(super) fn elsewhere(row: &Row, home: &Home) -> Result<Option<Home>> {
    let outcome: &str = get(row, "outcome")?;
    if outcome != "ELSEWHERE" && (outcome != "OK" || *home == Home::Shared) {
        return Ok(None);
    }
    let told = told(row, OrganizationId(get(row, "organization_id")?))?;
    Ok((told != *home).then_some(told))
}

pub(super) fn told(row: &Row, organization: OrganizationId) -> Result<Home> {
    Home::told(get(row, "home")?, get(row, "home_version")?, organization)
}

/// Looks in a database of organizations' own. What that does not let in, the control database is
/// asked about: the person may be new there, the organization may have moved, or be in the midst of
/// it.
async fn look_in_database(
    placement: &Placement,
    access: Access,
    question: &Question,
    name: &Arc<str>,
    brought: &mut bool,
) -> Result<Found> {
    let there = async {
        let database = placement.database(name).await?;
        let (requests, system) = (database.requests(), database.system());
        let home = Home::Shared.name();
        let asked = question.ask(requests, system, access, None, &home).await?;
        Ok::<_, Error>((database, asked))
    };
    let there = match there.await {
        // Where the organization lives its suspension is known as well.
        Ok((database, (transaction, row)))
            if ["OK", "ORGANIZATION_SUSPENDED"].contains(&get(&row, "outcome")?) =>
        {
            let (home, database) = (Home::Database(Arc::clone(name)), Some(database));
            return Ok(Found::Begun(Box::new(Begun { transaction, row, home, database })));
        }
        Ok((database, (transaction, row))) => {
            transaction.roll_back().await;
            Ok((database, row))
        }
        // It may live elsewhere by now.
        Err(error) => Err(error),
    };
    // No home has this name, so that nothing is opened.
    let (requests, system) = (placement.requests(), placement.system());
    let (transaction, row) = question.ask(requests, system, access, None, "").await?;
    if get::<&str>(&row, "outcome")? != "ELSEWHERE" {
        return Ok(refused(transaction, row));
    }
    let organization = OrganizationId(get(&row, "organization_id")?);
    let home = told(&row, organization)?;
    if home != Home::Database(Arc::clone(name)) {
        transaction.roll_back().await;
        placement.homes().learn(question.name().unwrap_or_default(), &home);
        return Ok(Found::Home(home));
    }
    let (database, there) = there?;
    if get::<&str>(&there, "outcome")? == "ELSEWHERE" {
        transaction.roll_back().await;
        let generations = (get(&row, "home_generation")?, get(&there, "home_generation")?);
        settle(placement, &database, organization, generations).await?;
        return Ok(Found::Home(home));
    }
    if *brought {
        // It knows the person by now, and does not let them in.
        return Ok(refused(transaction, there));
    }
    transaction.roll_back().await;
    bring_person(placement, &database, get(&row, "user_id")?).await?;
    *brought = true;
    Ok(Found::Home(home))
}

fn refused(transaction: Transaction, row: Row) -> Found {
    Found::Begun(Box::new(Begun { transaction, row, home: Home::Shared, database: None }))
}

/// Tells a database who somebody is. They stay as they are until it knows.
pub(super) async fn bring_person(
    placement: &Placement,
    database: &Dedicated,
    user: uuid::Uuid,
) -> Result<()> {
    let parameters = Parameters::of(Some(Values(vec![user.into()])))?;
    let (control, rows) =
        Transaction::begin(placement.upkeep(), Access::Write, None, COPY_OF_PERSON, &parameters)
            .await?;
    if let Some(person) = person(&rows)? {
        // Whoever has one of these connections in hand waits for none of the control database.
        let values = Some(Values(vec![person.into()]));
        ask(database.system(), Access::Write, BRING_PERSON, values).await?;
    }
    control.roll_back().await;
    Ok(())
}

fn person(rows: &[Row]) -> Result<Option<String>> {
    let person = rows.first().map(|row| row.try_get("person")).transpose();
    Ok(person.map_err(failed)?.flatten())
}

/// Ends a move between the control database and another that was interrupted between the two
/// commits of its switch. Whoever lets an organization go has brought everything to the other side
/// before, so that this may be done by everybody, and more than once.
pub(super) async fn settle(
    placement: &Placement,
    database: &Dedicated,
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
            placement.ask_control(Access::Write, take_back, values(theirs)).await?;
            Ok(())
        }
        _ => Err(Error::unavailable(format!(
            "the organization {} is to be in the database {name}, and is not",
            organization.0
        ))),
    }
}
