//! Sessions for tests that run SQL: opened with a proof as a server does, or set by the superuser.

use pg::Client;

use super::database::Database;

/// A key for proofs as the database stores it, of 32 zero bytes, and the code that it computes for
/// a message.
const KEY: &str = "INSERT INTO auth.proof_keys (inner_block, outer_block)
    VALUES (decode(repeat('36', 64), 'hex'), decode(repeat('5c', 64), 'hex'))
    ON CONFLICT DO NOTHING";
const CODE: &str = "encode(sha256(decode(repeat('5c', 64), 'hex') || sha256(decode(repeat('36', 64), 'hex') || convert_to(message, 'UTF8'))), 'hex')";

/// A request to open, in SQL expressions but for the subject.
pub struct Request<'sql> {
    pub subject: &'sql str,
    pub path: &'sql str,
    pub claim: &'sql str,
    pub email: &'sql str,
    pub issued_at: &'sql str,
    /// The age of the proof in seconds.
    pub age: i64,
}

impl Default for Request<'_> {
    fn default() -> Self {
        let null = "NULL";
        Self { subject: "", path: null, claim: null, email: null, issued_at: null, age: 0 }
    }
}

impl Database {
    /// Returns the arguments with which a server would open a request of a caller at an
    /// organization's address, `age` seconds ago.
    pub async fn proven(&self, subject: &str, slug: &str, age: i64) -> String {
        let path = format!("'{slug}'");
        self.proven_request(&Request { subject, path: &path, age, ..Request::default() }).await
    }

    /// Returns the arguments with which a server would open this request.
    pub async fn proven_request(&self, request: &Request<'_>) -> String {
        let admin = self.connect_admin().await;
        admin.batch(KEY).await.unwrap();
        let Request { subject, path, claim, email, issued_at, age } = request;
        let sql = format!(
            "SELECT format('%L, %L, %L, %L, %L, %L, %L, %s, %L', '', subject, path, claim, email, placement, issued_at, proven_at, '\\x' || {CODE})
             FROM (SELECT extract(epoch FROM now())::bigint - {age}, '{subject}', ({path})::text, ({claim})::text, ({email})::text, ({issued_at})::timestamptz)
                 t (proven_at, subject, path, claim, email, issued_at)
             CROSS JOIN LATERAL (SELECT (extract(epoch FROM issued_at) * 1000000)::bigint::text) i (micros)
             CROSS JOIN LATERAL (SELECT format('%s open 0: %s:%s %s:%s %s:%s %s:%s %s:%s', proven_at, octet_length(subject), subject,
                 octet_length(path), path, octet_length(claim), claim, octet_length(email), email, octet_length(micros), micros)) m (message)
             CROSS JOIN LATERAL (SELECT coalesce((SELECT p.placement FROM app.placements p JOIN app.organization_slugs s USING (organization_id)
                                                  WHERE s.slug = path), 'shared')) h (placement)"
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
        self.reopening_with(subject, &id, &version).await
    }

    /// Returns the same call with this version.
    pub async fn reopening_with(&self, subject: &str, id: &str, version: &str) -> String {
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
