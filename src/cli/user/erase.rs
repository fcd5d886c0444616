//! Forgets a person in all databases. Each has a transaction; they are committed together, that of
//! the control database last, by which the person is found: what was cut off in between is simply
//! done again.
#![expect(clippy::disallowed_types, reason = "a person is in several organizations")]

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{Connection, Executor, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::place::{self, Person, Seat};
use crate::cli::{
    Failure,
    owner::{Owner, in_use},
};

/// A database while the person is forgotten in it.
struct Place<'c> {
    /// None: the control database.
    name: Option<String>,
    transaction: Transaction<'c, Postgres>,
    schemas: Vec<Uuid>,
    begun: DateTime<Utc>,
}

/// Everywhere or, when something is in the way, nowhere. Answers the memberships that ended.
pub(super) async fn erase(owner: &Owner, name: &str) -> Result<Vec<Seat>, Failure> {
    let mut control = owner.connect().await?;
    let person = place::find(&mut control, name).await?;
    // Their traces may be wherever somebody lives: each must be reached before anything is done.
    let mut connections = Vec::new();
    for database in databases(owner, &mut control).await? {
        let connection = owner.dedicated(&database).await?;
        connections.push((Some(database), connection));
    }
    connections.push((None, control));
    let (person, seats) = everywhere(&mut connections, person, name).await?;
    for (database, connection) in &mut connections {
        if let Some(database) = database {
            forget_again(connection, &person).await.map_err(|error| {
                Failure::new(format!(
                    "{name} is erased, but was brought to the database {database} meanwhile: DELETE FROM auth.users WHERE id = '{}' there: {error}",
                    person.id
                ))
            })?;
        }
    }
    Ok(seats)
}

/// The names of all databases of organizations' own, always in the same order.
pub(super) async fn databases(
    owner: &Owner,
    control: &mut PgConnection,
) -> Result<BTreeSet<String>, Failure> {
    let mut names: BTreeSet<_> =
        owner.databases()?.into_iter().map(|database| database.name).collect();
    names.extend(in_use(control).await?);
    Ok(names)
}

/// The connections are those of all databases, that of the control database the last.
async fn everywhere(
    connections: &mut [(Option<String>, PgConnection)],
    mut person: Person,
    name: &str,
) -> Result<(Person, Vec<Seat>), Failure> {
    let mut places = Vec::new();
    let are_several = connections.len() > 1;
    for (name, connection) in connections {
        let mut transaction = connection.begin().await?;
        if are_several {
            // No database knows who waits in another.
            transaction.execute("SET LOCAL lock_timeout = '30s'").await?;
        }
        let schemas = place::enter_all(&mut transaction).await?;
        place::add_addresses(&mut transaction, &mut person, &schemas).await?;
        places.push(Place { name: name.clone(), transaction, schemas, begun: DateTime::default() });
    }
    // The long way through all entries, before anybody has to wait for us.
    for place in &mut places {
        place.begun =
            place::forget_entries(&mut place.transaction, &person, &place.schemas, None).await?;
    }
    let mut seats = Vec::new();
    for place in &mut places {
        place::lock(&mut place.transaction, &person).await?;
        seats.push(place::lock_seats(&mut place.transaction, person.id).await?);
    }
    check_owners(&seats, name)?;
    check_homes(&mut places, &person).await?;
    for (place, seats) in places.iter_mut().zip(&seats) {
        let transaction = &mut place.transaction;
        place::record(transaction, seats, person.id).await?;
        let since = Some((place.begun, seats.as_slice()));
        place::forget_entries(transaction, &person, &place.schemas, since).await?;
        if place.name.is_none() {
            place::bury(transaction, &person).await?;
        }
        place::forget(transaction, &person, &place.schemas).await?;
    }
    for place in places {
        place.transaction.commit().await?;
    }
    let mut seats: Vec<Seat> = seats.into_iter().flatten().collect();
    seats.sort_by(|one, other| one.slug.cmp(&other.slug));
    Ok((person, seats))
}

fn check_owners(seats: &[Vec<Seat>], name: &str) -> Result<(), Failure> {
    let mut alone: Vec<_> = seats
        .iter()
        .flatten()
        .filter(|seat| seat.last_owner)
        .map(|seat| seat.slug.as_str())
        .collect();
    if alone.is_empty() {
        return Ok(());
    }
    alone.sort_unstable();
    Err(Failure::new(format!(
        "{name} is the last owner of {}: transfer or delete first",
        alone.join(", ")
    )))
}

/// An organization that has left one database and not yet arrived in another is in neither's hands.
async fn check_homes(places: &mut [Place<'_>], person: &Person) -> Result<(), Failure> {
    let Some(control) = places.iter_mut().find(|place| place.name.is_none()) else {
        return Ok(());
    };
    for (organization, database, generation) in
        place::elsewhere(&mut control.transaction, person).await?
    {
        let home = places.iter_mut().find(|place| place.name.as_ref() == Some(&database));
        let is_there = match home {
            Some(home) => {
                place::lives_here(&mut home.transaction, organization, generation).await?
            }
            None => false,
        };
        if !is_there {
            return Err(Failure::new(format!(
                "the organization {organization} is just moving: try again in a moment"
            )));
        }
    }
    Ok(())
}

/// Who asked for something between two of the commits was brought there again, as nobody's member.
async fn forget_again(connection: &mut PgConnection, person: &Person) -> Result<(), sqlx::Error> {
    if !place::is_known(connection, person).await? {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    let schemas = place::enter_all(&mut transaction).await?;
    place::forget(&mut transaction, person, &schemas).await?;
    transaction.commit().await
}
