//! Erases a user in all databases, with one transaction per database. The control database commits
//! last, because the user is found there: an interrupted command can simply be repeated.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use pg::{Client, ClientTransaction};
use uuid::Uuid;

use super::personal_data::{self, MembershipRow, UserRecord};
use crate::cli::{
    Failure,
    owner_connection::{Owner, in_use},
};

/// A database in which the user is being erased.
struct Place<'c> {
    /// `None` is the control database.
    name: Option<String>,
    transaction: ClientTransaction<'c>,
    schemas: Vec<Uuid>,
    started_at: DateTime<Utc>,
}

/// Erases the user in all databases, or in none if something prevents it. Returns the memberships
/// that ended.
pub(super) async fn erase(owner: &Owner, name: &str) -> Result<Vec<MembershipRow>, Failure> {
    let control = owner.connect().await?;
    let user = personal_data::find(&control, name).await?;
    // Any database with organizations may hold traces, so all must be reachable first.
    let mut connections = Vec::new();
    for database in databases(owner, &control).await? {
        let connection = owner.dedicated(&database).await?;
        connections.push((Some(database), connection));
    }
    connections.push((None, control));
    let (user, memberships) = everywhere(&mut connections, user, name).await?;
    for (database, connection) in &mut connections {
        if let Some(database) = database {
            erase_again(connection, &user).await.map_err(|error| {
                Failure::new(format!(
                    "{name} is erased, but servers have copied the user to the database {database} again. Run there: DELETE FROM auth.users WHERE id = '{}'. {error}",
                    user.id
                ))
            })?;
        }
    }
    Ok(memberships)
}

/// The names of all dedicated databases, always in the same order.
pub(super) async fn databases(
    owner: &Owner,
    control: &Client,
) -> Result<BTreeSet<String>, Failure> {
    let mut names: BTreeSet<_> =
        owner.databases()?.into_iter().map(|database| database.name).collect();
    names.extend(in_use(control).await?);
    Ok(names)
}

/// Erases in all databases. `connections` holds one for each, the control database last.
async fn everywhere(
    connections: &mut [(Option<String>, Client)],
    mut user: UserRecord,
    name: &str,
) -> Result<(UserRecord, Vec<MembershipRow>), Failure> {
    let mut places = Vec::new();
    let are_several = connections.len() > 1;
    for (name, connection) in connections {
        let transaction = connection.begin().await?;
        if are_several {
            // PostgreSQL cannot detect a deadlock across databases.
            transaction.batch("SET LOCAL lock_timeout = '30s'").await?;
        }
        let schemas = personal_data::enter_all(&transaction).await?;
        personal_data::add_addresses(&transaction, &mut user, &schemas).await?;
        places.push(Place {
            name: name.clone(),
            transaction,
            schemas,
            started_at: DateTime::default(),
        });
    }
    // The slow scan of all entries runs before other sessions have to wait for the locks.
    for place in &mut places {
        place.started_at =
            personal_data::erase_entries(&place.transaction, &user, &place.schemas, None).await?;
    }
    let mut memberships = Vec::new();
    for place in &mut places {
        personal_data::lock(&place.transaction, &user).await?;
        memberships.push(personal_data::lock_memberships(&place.transaction, user.id).await?);
    }
    check_owners(&memberships, name)?;
    check_homes(&mut places, &user).await?;
    for (place, memberships) in places.iter_mut().zip(&memberships) {
        let transaction = &place.transaction;
        personal_data::record(transaction, memberships, user.id).await?;
        let since = Some((place.started_at, memberships.as_slice()));
        personal_data::erase_entries(transaction, &user, &place.schemas, since).await?;
        if place.name.is_none() {
            personal_data::block_tokens(transaction, &user).await?;
        }
        personal_data::erase(transaction, &user, &place.schemas).await?;
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
        "{name} is the last owner of {}. Transfer the ownership or delete the organization first.",
        alone.join(", ")
    )))
}

/// Refuses while an organization of the user moves between databases: neither of them could end
/// the membership then.
async fn check_homes(places: &mut [Place<'_>], user: &UserRecord) -> Result<(), Failure> {
    let Some(control) = places.iter_mut().find(|place| place.name.is_none()) else {
        return Ok(());
    };
    for (organization, database, generation) in
        personal_data::elsewhere(&control.transaction, user).await?
    {
        let placement = places.iter_mut().find(|place| place.name.as_ref() == Some(&database));
        let is_there = match placement {
            Some(placement) => {
                personal_data::lives_here(&placement.transaction, organization, generation).await?
            }
            None => false,
        };
        if !is_there {
            return Err(Failure::new(format!(
                "the organization {organization} is moving between databases. Run the command again when the move is finished."
            )));
        }
    }
    Ok(())
}

/// Deletes a user whom a request between two of the commits copied to this database again. That
/// copy has no membership.
async fn erase_again(connection: &mut Client, user: &UserRecord) -> pg::Result<()> {
    if !personal_data::is_known(connection, user).await? {
        return Ok(());
    }
    let transaction = connection.begin().await?;
    let schemas = personal_data::enter_all(&transaction).await?;
    personal_data::erase(&transaction, user, &schemas).await?;
    transaction.commit().await
}
