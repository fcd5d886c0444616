//! Sessions for tests that run SQL: opened with a proof as a server does, or set by the superuser.

use pg::Client;

use super::database::Database;

/// A key for proofs as the database stores it, of 32 zero bytes, and the code that it computes for
/// a message.
const KEY: &str = "INSERT INTO auth.proof_keys (inner_block, outer_block)
    VALUES (decode(repeat('36', 64), 'hex'), decode(repeat('5c', 64), 'hex'))
    ON CONFLICT DO NOTHING";
const CODE: &str = "encode(sha256(decode(repeat('5c', 64), 'hex') || sha256(decode(repeat('36', 64), 'hex') || convert_to(message, 'UTF8'))), 'hex')";

impl Database {
    /// Returns the arguments with which a server would open a request of a caller at an
    /// organization's address, `age` seconds ago.
    pub async fn proven(&self, subject: &str, slug: &str, age: i64) -> String {
        let admin = self.connect_admin().await;
        admin.batch(KEY).await.unwrap();
        let (subjects, slugs) = (subject.len(), slug.len());
        let sql = format!(
            "SELECT format('%L, %L, %L, NULL, NULL, %L, NULL, %s, %L', '', '{subject}', '{slug}', placement, proven_at, '\\x' || {CODE})
             FROM (SELECT extract(epoch FROM now())::bigint - {age}) t (proven_at)
             CROSS JOIN LATERAL (SELECT proven_at || ' open 0: {subjects}:{subject} {slugs}:{slug} : : :') m (message)
             CROSS JOIN (SELECT coalesce((SELECT p.placement FROM app.placements p JOIN app.organization_slugs s USING (organization_id)
                                          WHERE s.slug = '{slug}'), 'shared')) h (placement)"
        );
        admin.query_one(&sql, &[]).await.unwrap()
    }

    /// Returns the call with which a server reopens a session of a caller in an organization.
    pub async fn reopening(&self, subject: &str, slug: &str) -> String {
        let open = self.proven(subject, slug, 0).await;
        let app = self.connect_app().await;
        app.batch("BEGIN READ ONLY").await.unwrap();
        let opened =
            format!("SELECT organization_id::text, version FROM auth.open_request({open})");
        let (id, version): (String, String) = app.query_one(&opened, &[]).await.unwrap();
        let (subjects, versions) = (subject.len(), version.len());
        let sql = format!(
            "SELECT format('auth.reopen_request(%L, %L, %L, %L, %s, %L)', '', '{subject}', '{id}', '{version}', at, '\\x' || {CODE})
             FROM (SELECT extract(epoch FROM now())::bigint) t (at)
             CROSS JOIN LATERAL (SELECT at || ' reopen 0: {subjects}:{subject} 36:{id} {versions}:{version}') m (message)"
        );
        self.connect_admin().await.query_one(&sql, &[]).await.unwrap()
    }

    /// Returns the statement with which a server opens a request of a caller at an organization's
    /// address.
    pub async fn opening(&self, subject: &str, slug: &str) -> String {
        format!("SELECT * FROM auth.open_request({})", self.proven(subject, slug, 0).await)
    }
}

/// Continues a transaction of the superuser in the role of requests, in the session of an
/// organization and a user, or of neither. Role and session end with the transaction.
pub async fn act(connection: &Client, organization: Option<&str>, user: Option<&str>) {
    let quoted = |id: Option<&str>| id.map_or_else(|| "NULL".to_owned(), |id| format!("'{id}'"));
    let (organization, user) = (quoted(organization), quoted(user));
    let sql = format!(
        "SELECT app.set_session({organization}, {user}, NULL); SET LOCAL ROLE tenantry_app"
    );
    connection.batch(&sql).await.unwrap();
}
