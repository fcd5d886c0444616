//! The personal data of a user in one database, and the statements that erase it.

use chrono::{DateTime, Utc};
use migration::placement::schema_of;
use pg::Client;
use serde_json::json;
use uuid::Uuid;

use crate::{
    audit::Action,
    cli::{
        Failure,
        tenant::{self, audit_logs, exclude_moves, schemas},
    },
    text::Email,
};

/// Replaces a name or an address.
const ERASED: &str = "(erased)";

/// Follows `UPDATE` and the name of a log. $1 is the user, $2 the user's addresses, $3 the
/// replacement, and $4 and $5 restrict the time and the organizations.
const ERASE_ENTRIES: [&str; 3] = [
    "SET actor_name = $3, ip_address = NULL
     WHERE actor_id = $1 AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5))) AND $2::text[] IS NOT NULL",
    "SET metadata = metadata || jsonb_build_object('name', $3::text)
     WHERE metadata->>'user_id' = $1::text AND metadata ? 'name' AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5)))
       AND $2::text[] IS NOT NULL",
    "SET metadata = metadata || jsonb_build_object('email', $3::text)
     WHERE metadata->>'email' = ANY($2) AND ($4::timestamptz IS NULL OR (created_at >= $4 AND organization_id = ANY($5))) AND $1::uuid IS NOT NULL",
];

#[derive(Debug)]
pub(super) struct UserRecord {
    pub(super) id: Uuid,
    /// The current address and all known earlier ones.
    pub(super) emails: Vec<String>,
}

#[derive(Debug)]
pub(super) struct MembershipRow {
    id: Uuid,
    organization_id: Uuid,
    in_schema: bool,
    pub(super) slug: String,
    pub(super) role: String,
    pub(super) last_owner: bool,
}

/// From here on no organization of this database moves to another placement. Moves in progress
/// record the changes of this transaction. Returns the organizations with a dedicated schema.
pub(super) async fn enter_all(connection: &Client) -> pg::Result<Vec<Uuid>> {
    exclude_moves(connection).await?;
    let sql = "SELECT set_config('app.moving', 'on', true) WHERE EXISTS (SELECT FROM app.placements WHERE moving_to IS NOT NULL)";
    connection.execute(sql, &[]).await?;
    schemas(connection).await
}

/// The shared audit log and that of each dedicated schema.
fn logs(schemas: &[Uuid]) -> impl Iterator<Item = String> {
    let own = schemas.iter().map(|organization| audit_logs(true, *organization));
    std::iter::once(audit_logs(false, Uuid::nil())).chain(own)
}

/// Finds a user in the control database, which knows all users: by id, or by an address of the user
/// or of an identity.
pub(super) async fn find(connection: &Client, name: &str) -> Result<UserRecord, Failure> {
    // An id is not an address, and stays as it is.
    let key = Email::parse(name).map_or_else(|| name.trim().to_lowercase(), Email::into_string);
    let sql = "SELECT id, email FROM auth.users u WHERE id::text = $1 OR email = $1
            OR EXISTS (SELECT FROM auth.identities i WHERE i.user_id = u.id AND i.email = $1)
        ORDER BY created_at, id";
    let found: Vec<(Uuid, Option<String>)> = connection.query(sql, &[&key]).await?;
    match found.as_slice() {
        [] => Err(Failure::new(format!("there is no user {name}"))),
        [(id, email)] => Ok(UserRecord { id: *id, emails: email.iter().cloned().collect() }),
        several => {
            let ids: Vec<String> = several.iter().map(|(id, _)| id.to_string()).collect();
            Err(Failure::new(format!(
                "several users have the address {name}. Give one of their ids: {}",
                ids.join(", ")
            )))
        }
    }
}

/// Adds earlier addresses, found in the user's identities and in audit entries about them.
pub(super) async fn add_addresses(
    connection: &Client,
    user: &mut UserRecord,
    schemas: &[Uuid],
) -> pg::Result<()> {
    let sql = "SELECT DISTINCT email FROM auth.identities WHERE user_id = $1 AND email IS NOT NULL";
    let known: Vec<String> = connection.query(sql, &[&user.id]).await?;
    user.emails.extend(known);
    for log in logs(schemas) {
        let sql = format!(
            "SELECT DISTINCT metadata->>'email' FROM {log}
             WHERE actor_id = $1 AND action IN ('invitation.accepted', 'invitation.declined', 'user.identity_linked', 'user.identity_unlinked')
                 AND metadata ? 'email'"
        );
        let accepted: Vec<String> = connection.query(&sql, &[&user.id]).await?;
        user.emails.extend(accepted);
    }
    Ok(())
}

/// Locks the user. From here on the user can neither join nor create an organization, because
/// memberships refer to the row, and is not copied to a dedicated database.
pub(super) async fn lock(connection: &Client, user: &UserRecord) -> pg::Result<()> {
    connection.execute("SELECT pg_advisory_xact_lock(auth.user_lock($1))", &[&user.id]).await?;
    connection.execute("SELECT FROM auth.users WHERE id = $1 FOR UPDATE", &[&user.id]).await?;
    Ok(())
}

/// Returns the user's memberships in organizations that live in this database. Locks each
/// organization, in an order in which two such commands cannot deadlock.
pub(super) async fn lock_memberships(
    connection: &Client,
    user: Uuid,
) -> pg::Result<Vec<MembershipRow>> {
    let sql = "SELECT organization_id, p.placement IS NOT DISTINCT FROM 'schema'
        FROM auth.organization_members m LEFT JOIN app.placements p USING (organization_id)
        WHERE m.user_id = $1 AND coalesce(p.placement, CASE WHEN app.database_name() IS NULL THEN 'shared' END) IN ('shared', 'schema')
        ORDER BY organization_id";
    let placements: Vec<(Uuid, bool)> = connection.query(sql, &[&user]).await?;
    for (organization, in_schema) in &placements {
        let billing = if *in_schema {
            format!("{}.organization_billing", schema_of(*organization))
        } else {
            "billing.organization_billing".to_owned()
        };
        let sql = format!("SELECT FROM {billing} WHERE organization_id = $1 FOR NO KEY UPDATE");
        connection.execute(&sql, &[organization]).await?;
    }
    let sql = "SELECT m.id, m.organization_id, o.slug, m.role::text AS role,
               m.role = 'owner' AND NOT EXISTS (
                   SELECT FROM auth.organization_members other
                   WHERE other.organization_id = m.organization_id AND other.role = 'owner' AND other.user_id <> $1)
               AS last_owner
        FROM auth.organization_members m JOIN app.organizations o ON o.id = m.organization_id
        WHERE m.user_id = $1 AND m.organization_id = ANY ($2) ORDER BY o.slug";
    let memberships: Vec<(Uuid, Uuid, String, String, bool)> = connection
        .query(
            sql,
            &[&user, &placements.iter().map(|(organization, _)| *organization).collect::<Vec<_>>()],
        )
        .await?;
    let membership = |(id, organization_id, slug, role, last_owner)| MembershipRow {
        id,
        organization_id,
        in_schema: placements.contains(&(organization_id, true)),
        slug,
        role,
        last_owner,
    };
    Ok(memberships.into_iter().map(membership).collect())
}

pub(super) async fn record(
    connection: &Client,
    memberships: &[MembershipRow],
    user: Uuid,
) -> pg::Result<()> {
    let what = ("tenantry user erase", Action::MemberRemoved);
    for MembershipRow { id, organization_id, in_schema, role, .. } in memberships {
        let metadata = json!({ "name": ERASED, "role": role, "user_id": user });
        tenant::record(connection, *in_schema, *organization_id, what, *id, metadata).await?;
    }
    Ok(())
}

/// Removes names and addresses from audit logs. The user id stays, so that the entries of one user
/// remain distinguishable. `since` restricts this to newer entries of the given organizations.
/// Returns when the scan started.
pub(super) async fn erase_entries(
    connection: &Client,
    user: &UserRecord,
    schemas: &[Uuid],
    since: Option<(DateTime<Utc>, &[MembershipRow])>,
) -> pg::Result<DateTime<Utc>> {
    // Entries carry the time of the action, not of its commit. A minute covers the difference.
    let started_at: DateTime<Utc> =
        connection.query_one("SELECT clock_timestamp() - interval '1 minute'", &[]).await?;
    let memberships = since.map(|(_, memberships)| memberships).unwrap_or_default();
    let organizations: Vec<Uuid> =
        memberships.iter().map(|membership| membership.organization_id).collect();
    for (log, statement) in
        logs(schemas).flat_map(|log| ERASE_ENTRIES.map(|erase| (log.clone(), erase)))
    {
        let sql = format!("UPDATE {log} {statement}");
        connection
            .execute(
                &sql,
                &[&user.id, &user.emails, &ERASED, &since.map(|(time, _)| time), &organizations],
            )
            .await?;
    }
    Ok(started_at)
}

pub(super) async fn erase(
    connection: &Client,
    user: &UserRecord,
    schemas: &[Uuid],
) -> pg::Result<()> {
    let own = schemas.iter().map(|organization| schema_of(*organization));
    let own = own.map(|schema| [schema.clone(), schema.clone(), schema]);
    let shared = ["auth", "billing", "app"].map(str::to_owned);
    for [invitations, billing, outbox] in std::iter::once(shared).chain(own) {
        // Subscriptions per seat follow the size of the team.
        let sql = format!(
            "WITH invited AS (
                 DELETE FROM {invitations}.invitations WHERE email = ANY($1) RETURNING organization_id
             )
             INSERT INTO {outbox}.outbox (organization_id, kind, payload, due_at)
             SELECT organization_id, 'stripe_seats', '{{}}', now() FROM {billing}.organization_billing
             WHERE seats IS NOT NULL AND (organization_id IN (SELECT organization_id FROM invited)
                 OR organization_id IN (SELECT organization_id FROM auth.organization_members WHERE user_id = $2))"
        );
        connection.execute(&sql, &[&user.emails, &user.id]).await?;
    }
    // Deleting the user cascades to identities and memberships, and clears references from
    // projects and invitations.
    connection.execute("DELETE FROM auth.users WHERE id = $1", &[&user.id]).await?;
    Ok(())
}

/// Keeps tokens issued until now from creating the user again. Runs in the control database, where
/// users are created.
pub(super) async fn block_tokens(connection: &Client, user: &UserRecord) -> pg::Result<()> {
    // The current time, because a token may have been issued since the transaction began.
    let sql = "INSERT INTO auth.erased_identities (identity, erased_at)
        SELECT auth.identity_digest(i.issuer, i.subject), clock_timestamp() FROM auth.identities i WHERE i.user_id = $1
        ON CONFLICT (identity) DO UPDATE SET erased_at = excluded.erased_at";
    connection.execute(sql, &[&user.id]).await?;
    Ok(())
}

/// The user's organizations in dedicated databases, as the control database knows them: id, name
/// of the database, and generation of the placement.
pub(super) async fn elsewhere(
    control: &Client,
    user: &UserRecord,
) -> pg::Result<Vec<(Uuid, String, i64)>> {
    let sql = "SELECT m.organization_id, substring(p.placement FROM 10), p.generation
        FROM auth.organization_members m JOIN app.placements p USING (organization_id)
        WHERE m.user_id = $1 AND p.placement LIKE 'database:%'";
    control.query(sql, &[&user.id]).await
}

/// Whether an organization lives in this database since the move with this generation.
pub(super) async fn lives_here(
    connection: &Client,
    organization: Uuid,
    generation: i64,
) -> pg::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM app.placements WHERE organization_id = $1 AND generation = $2 AND placement = 'shared')";
    connection.query_one(sql, &[&organization, &generation]).await
}

/// Whether the user exists in this database.
pub(super) async fn is_known(connection: &Client, user: &UserRecord) -> pg::Result<bool> {
    connection.query_one("SELECT EXISTS (SELECT FROM auth.users WHERE id = $1)", &[&user.id]).await
}
