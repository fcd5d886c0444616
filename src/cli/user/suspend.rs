//! Suspends or resumes a user: in the control database, then in each dedicated database that knows
//! the user. After an interruption, directory sync or the same command completes the rest.

use entity::UserId;
use pg::Client;
use uuid::Uuid;

use super::{erase::databases, personal_data};
use crate::{
    cli::{Failure, owner_connection::Owner, say, tenant::copy_users},
    tenancy::{Change, ChangeFeed},
};

pub(super) async fn set(owner: &Owner, name: &str, suspended: bool) -> Result<(), Failure> {
    let mut control = owner.connect().await?;
    let user = personal_data::find(&control, name).await?;
    let has_changed = write(&mut control, user.id, suspended).await?;
    let mut failed = Vec::new();
    for database in databases(owner, &control).await? {
        if let Err(error) = copy(owner, &control, &database, &user).await {
            say(format!("failed: the database {database}: {error}"));
            failed.push(database);
        }
    }
    // Only now that every database has the change: subscriptions check access again.
    publish(&control, user.id).await?;
    if !failed.is_empty() {
        return Err(Failure::new(format!(
            "the change has not reached the databases {}. Run the command again, or wait until servers copy it.",
            failed.join(", ")
        )));
    }
    say(match (suspended, has_changed) {
        (true, true) => format!("suspended {name}"),
        (true, false) => format!("{name} is already suspended"),
        (false, true) => format!("resumed {name}"),
        (false, false) => format!("{name} is not suspended"),
    });
    Ok(())
}

async fn write(control: &mut Client, user: Uuid, suspended: bool) -> Result<bool, Failure> {
    let transaction = control.begin().await?;
    personal_data::enter_all(&transaction).await?;
    let sql = "UPDATE auth.users SET suspended_at = CASE WHEN $2 THEN now() END WHERE id = $1 AND (suspended_at IS NOT NULL) <> $2";
    let written = transaction.execute(sql, &[&user, &suspended]).await?;
    transaction.commit().await?;
    Ok(written == 1)
}

/// Publishes a change of access, which ends the subscriptions of a suspended user.
async fn publish(control: &Client, user: Uuid) -> Result<(), Failure> {
    let organizations: Vec<Uuid> = control
        .query("SELECT organization_id FROM auth.organization_members WHERE user_id = $1", &[&user])
        .await?;
    for organization in organizations {
        let (channel, notice) =
            ChangeFeed::notification(Some(organization), Change::access(Some(UserId(user))))?;
        control.execute("SELECT pg_notify($1, $2)", &[&channel, &notice]).await?;
    }
    Ok(())
}

/// Copies the user to a dedicated database, which records the suspension when it arrives.
async fn copy(
    owner: &Owner,
    control: &Client,
    database: &str,
    user: &personal_data::UserRecord,
) -> Result<(), Failure> {
    let there = owner.dedicated(database).await?;
    if personal_data::is_known(&there, user).await? {
        copy_users(control, &there, &[user.id]).await?;
    }
    Ok(())
}
