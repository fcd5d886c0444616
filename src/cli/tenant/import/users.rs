//! Imports the users that an export names. Existing users stay as they are. New users have no
//! address, because only a token can prove one, and receive their identities only if the file is
//! trusted.

use pg::Client;
use uuid::Uuid;

use super::super::{
    Failure,
    table_rows::{columns, sum},
};

pub(super) struct ImportedUsers {
    /// Whether the file is trusted about members and identities.
    are_trusted: bool,
    /// The users that the import created.
    created: Vec<Uuid>,
}

impl ImportedUsers {
    pub(super) fn new(are_trusted: bool) -> Self {
        Self { are_trusted, created: Vec::new() }
    }

    /// Creates missing users. Returns the sum of the hashes of the file's rows.
    pub(super) async fn add_users(
        &mut self,
        connection: &Client,
        rows: &str,
    ) -> Result<i128, Failure> {
        let columns = columns(connection, "auth.users").await?;
        let sql = format!(
            "WITH row AS MATERIALIZED (SELECT r.* FROM jsonb_populate_recordset(NULL::auth.users, $1::jsonb) r),
             put AS (INSERT INTO auth.users ({bare}) SELECT {bare} FROM row ON CONFLICT (id) DO NOTHING RETURNING id)
             SELECT {sum}, (SELECT coalesce(array_agg(id), '{{}}') FROM put) FROM row t",
            bare = without_contacts(&columns),
            sum = sum(&columns, "t"),
        );
        let (sum, created): (String, Vec<Uuid>) = connection.query_one(&sql, &[&rows]).await?;
        self.created.extend(created);
        Ok(sum.parse()?)
    }

    /// Adds the identities of created users. Returns the sum of the hashes of the file's rows.
    pub(super) async fn add_identities(
        &self,
        connection: &Client,
        rows: &str,
    ) -> Result<i128, Failure> {
        let columns = columns(connection, "auth.identities").await?;
        let sql = format!(
            "WITH row AS MATERIALIZED (SELECT r.* FROM jsonb_populate_recordset(NULL::auth.identities, $1::jsonb) r),
             put AS (INSERT INTO auth.identities ({bare}) SELECT {bare} FROM row
                     WHERE user_id = ANY ($2) AND NOT EXISTS (
                         SELECT FROM auth.erased_identities e WHERE e.identity = auth.identity_digest(row.issuer, row.subject))
                     ON CONFLICT (issuer, subject) DO NOTHING)
             SELECT {sum} FROM row t",
            bare = without_contacts(&columns),
            sum = sum(&columns, "t"),
        );
        let users = if self.are_trusted { self.created.as_slice() } else { &[] };
        let sum: String = connection.query_one(&sql, &[&rows, &users]).await?;
        Ok(sum.parse()?)
    }

    /// Refuses an untrusted file that makes existing users members.
    pub(super) async fn check_members(
        &self,
        connection: &Client,
        organization: Uuid,
    ) -> Result<(), Failure> {
        if self.are_trusted {
            return Ok(());
        }
        let known: Vec<String> = connection
            .query(
                "SELECT format('%s (%s)', coalesce(u.email, u.id::text), m.role)
             FROM auth.organization_members m JOIN auth.users u ON u.id = m.user_id
             WHERE m.organization_id = $1 AND u.id <> ALL ($2) ORDER BY 1",
                &[&organization, &self.created],
            )
            .await?;
        if known.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the file makes existing users members: {}. To allow it, pass --trust-members.",
            known.join(", ")
        )))
    }
}

/// The members without an identity to sign in with, each as name or id, and role.
pub(super) async fn locked_out(connection: &Client, organization: Uuid) -> pg::Result<Vec<String>> {
    connection
        .query(
            "SELECT format('%s (%s)', coalesce(u.name, u.id::text), m.role)
         FROM auth.organization_members m JOIN auth.users u ON u.id = m.user_id
         WHERE m.organization_id = $1 AND NOT EXISTS (SELECT FROM auth.identities i WHERE i.user_id = u.id)
         ORDER BY 1",
            &[&organization],
        )
        .await
}

fn without_contacts(columns: &[String]) -> String {
    let others =
        columns.iter().map(String::as_str).filter(|column| !["email", "picture"].contains(column));
    others.collect::<Vec<_>>().join(", ")
}
