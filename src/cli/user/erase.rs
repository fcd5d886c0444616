//! Forgets a person in all databases. Each has a transaction; they are committed together, that of
//! the control database last, by which the person is found: what was cut off in between is simply
//! done again.
#![expect(clippy::disallowed_types, reason = "a person is in several organizations")]

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{Connection, Executor, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::record::{self, MembershipRow, UserRecord};
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
pub(super) async fn erase(owner: &Owner, name: &str) -> Result<Vec<MembershipRow>, Failure> {
    let mut control = owner.connect().await?;
    let user = record::find(&mut control, name).await?;
    // Their traces may be wherever somebody lives: each must be reached before anything is done.
    let mut connections = Vec::new();
    for database in databases(owner, &mut control).await? {
        let connection = owner.dedicated(&database).await?;
        connections.push((Some(database), connection));
    }
    connections.push((None, control));
    let (user, memberships) = everywhere(&mut connections, user, name).await?;
    for (database, connection) in &mut connections {
        if let Some(database) = database {
            forget_again(connection, &user).await.map_err(|error| {
                Failure::new(format!(
                    "{name} is erased, but was brought to the database {database} meanwhile: DELETE FROM auth.users WHERE id = '{}' there: {error}",
                    user.id
                ))
            })?;
        }
    }
    Ok(memberships)
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
    mut user: UserRecord,
    name: &str,
) -> Result<(UserRecord, Vec<MembershipRow>), Failure> {
    let mut places = Vec::new();
    let are_several = connections.len() > 1;
    for (name, connection) in connections {
        let mut transaction = connection.begin().await?;
        if are_several {
            // No database knows who waits in another.
            transaction.execute("SET LOCAL lock_timeout = '30s'").await?;
        }
        let schemas = record::enter_all(&mut transaction).await?;
        record::add_addresses(&mut transaction, &mut user, &schemas).await?;
        places.push(Place { name: name.clone(), transaction, schemas, begun: DateTime::default() });
    }
    // The long way through all entries, before anybody has to wait for us.
    for place in &mut places {
        place.begun =
            record::forget_entries(&mut place.transaction, &user, &place.schemas, None).await?;
    }
    let mut memberships = Vec::new();
    for place in &mut places {
        record::lock(&mut place.transaction, &user).await?;
        memberships.push(record::lock_memberships(&mut place.transaction, user.id).await?);
    }
    check_owners(&memberships, name)?;
    check_homes(&mut places, &user).await?;
    for (place, memberships) in places.iter_mut().zip(&memberships) {
        let transaction = &mut place.transaction;
        record::record(transaction, memberships, user.id).await?;
        let since = Some((place.begun, memberships.as_slice()));
        record::forget_entries(transaction, &user, &place.schemas, since).await?;
        if place.name.is_none() {
            record::record_tombstone(transaction, &user).await?;
        }
        record::forget(transaction, &user, &place.schemas).await?;
    }
    for place in places {
        place.transaction.commit().await?;
    }
    let mut memberships: Vec<MembershipRow> = memberships.into_iter().flatten().collect();
    memberships.sort_by(|one, other| one.slug.cmp(&other.slug));
    Ok((user, memberships))
}

fn check_owners(memberships: &[Vec<MembershipRow>], name: &str) -> Result<(), Failure> {
    let mut alone: Vec<_> = memberships
        .iter()
        .flatten()
        .filter(|membership| membership.last_owner)
        .map(|membership| membership.slug.as_str())
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
async fn check_homes(places: &mut [Place<'_>], user: &UserRecord) -> Result<(), Failure> {
    let Some(control) = places.iter_mut().find(|place| place.name.is_none()) else {
        return Ok(());
    };
    for (organization, database, generation) in
        record::elsewhere(&mut control.transaction, user).await?
    {
        let placement = places.iter_mut().find(|place| place.name.as_ref() == Some(&database));
        let is_there = match placement {
            Some(placement) => {
                record::lives_here(&mut placement.transaction, organization, generation).await?
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
async fn forget_again(connection: &mut PgConnection, user: &UserRecord) -> Result<(), sqlx::Error> {
    if !record::is_known(connection, user).await? {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    let schemas = record::enter_all(&mut transaction).await?;
    record::forget(&mut transaction, user, &schemas).await?;
    transaction.commit().await
}
