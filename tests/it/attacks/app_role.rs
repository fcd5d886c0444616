//! SQL injected into a request, in the role of requests. It reads and writes what the request's
//! caller could, but no other tenant, and cannot become another user.
//!
//! Each test opens a session as a server does and then runs the injected SQL on the same
//! connection.

mod audit;
mod connection;
mod fallback;
mod identity;
mod session;

use pg::Client;

use crate::support::database::Database;

const ACME: &str = "00000000-0000-4000-8000-00000000000a";
const GLOBEX: &str = "00000000-0000-4000-8000-00000000000b";
const GLOBEX_OWNER: &str = "00000000-0000-4000-8000-0000000000b1";

/// SQLSTATE `insufficient_privilege` (PostgreSQL manual, appendix A).
const DENIED: &str = "42501";

/// A request of acme's owner into which SQL is injected.
struct Injected {
    connection: Client,
}

impl Injected {
    /// Opens a session with a server's proof, in a transaction started with `begin`.
    async fn begin(database: &Database, begin: &str) -> Self {
        let open = database.opening("acme-owner", "acme").await;
        let mut injected = Self { connection: database.connect_app().await };
        injected.run(begin).await.unwrap();
        assert_eq!(injected.run(&open).await, Ok(1));
        assert_eq!(injected.text("SELECT app.current_organization()::text").await, ACME);
        injected
    }

    /// Opens a session in a read-write transaction.
    async fn new(database: &Database) -> Self {
        Self::begin(database, "BEGIN ISOLATION LEVEL READ COMMITTED").await
    }

    /// Returns the rows that the last statement affected, or its SQLSTATE.
    async fn run(&mut self, sql: &str) -> Result<u64, String> {
        let done = self.connection.execute(sql, &[]).await;
        done.map_err(|error| error.code().unwrap_or_else(|| panic!("{sql}: {error}")).to_owned())
    }

    /// Runs the SQL and rolls back to the state before an error.
    async fn attempt(&mut self, sql: &str) -> Result<u64, String> {
        self.run("SAVEPOINT attempt").await.unwrap();
        let outcome = self.run(sql).await;
        if outcome.is_err() {
            self.run("ROLLBACK TO attempt").await.unwrap();
        }
        outcome
    }

    /// Returns the only value of a query, empty for NULL.
    async fn text(&mut self, sql: &str) -> String {
        let value: Option<String> = self
            .connection
            .query_one(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        value.unwrap_or_default()
    }

    /// Asserts that the connection can neither read nor write rows of globex.
    async fn reaches_no_other_tenant(&mut self, after: &str) {
        let tables =
            ["projects", "organization_members", "audit_logs", "organization_billing", "usage"];
        for table in tables {
            let seen =
                format!("SELECT count(*)::text FROM {table} WHERE organization_id = '{GLOBEX}'");
            assert_eq!(self.text(&seen).await, "0", "{table} after {after}");
        }
        let seen = format!("SELECT count(*)::text FROM users WHERE id = '{GLOBEX_OWNER}'");
        assert_eq!(self.text(&seen).await, "0", "users after {after}");
        let written = [
            format!("UPDATE projects SET name = 'x' WHERE organization_id = '{GLOBEX}'"),
            format!("DELETE FROM organization_members WHERE organization_id = '{GLOBEX}'"),
        ];
        for sql in written {
            let outcome = self.attempt(&sql).await;
            // A read-only transaction writes nothing at all.
            assert!(
                outcome == Ok(0) || outcome == Err("25006".to_owned()),
                "{sql} after {after}: {outcome:?}"
            );
        }
        let insert =
            format!("INSERT INTO projects (organization_id, name) VALUES ('{GLOBEX}', 'x')");
        let outcome = self.attempt(&insert).await.unwrap_err();
        assert!([DENIED, "25006"].contains(&&*outcome), "{insert} after {after}: {outcome}");
    }
}
