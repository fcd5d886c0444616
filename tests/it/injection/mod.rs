//! What an attacker who runs any SQL as the app's role could do: attacks in plain SQL, on a new
//! connection and in another tenant's transaction. The names of the tests are the documentation.

mod definer_functions;
mod denied_statements;
mod known_limits;
mod side_channels;

use pg::Client;

use crate::support::database::Database;

const ACME: &str = "00000000-0000-4000-8000-00000000000a";
const GLOBEX: &str = "00000000-0000-4000-8000-00000000000b";
const GLOBEX_OWNER: &str = "00000000-0000-4000-8000-0000000000b1";

/// SQLSTATE `insufficient_privilege` (PostgreSQL manual, appendix A).
const DENIED: &str = "42501";

/// A connection of the app's role under the attacker's control.
struct Injection {
    connection: Client,
    context: &'static str,
}

impl Injection {
    /// A new connection without any setting.
    async fn fresh(database: &Database) -> Self {
        let connection = database.connect_app().await;
        connection.batch("BEGIN").await.unwrap();
        Self { connection, context: "fresh" }
    }

    /// A connection in the middle of a request of acme's owner, opened by a server.
    async fn in_acme(database: &Database) -> Self {
        let mut injection = Self::fresh(database).await;
        let open = database.opening("acme-owner", "acme").await;
        assert_eq!(injection.run(&open).await, 1);
        Self { context: "in acme", ..injection }
    }

    async fn both(database: &Database) -> [Self; 2] {
        [Self::fresh(database).await, Self::in_acme(database).await]
    }

    /// Runs a statement that must succeed, and returns the number of affected rows.
    async fn run(&mut self, sql: &str) -> u64 {
        match self.connection.execute(sql, &[]).await {
            Ok(done) => done,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// Returns the only value of a statement as text.
    async fn text(&mut self, sql: &str) -> Option<String> {
        let row = self.connection.query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs a statement and rolls it back. Returns the number of affected rows, or its SQLSTATE and
    /// the full message.
    async fn attempt(&mut self, sql: &str) -> Result<u64, (String, String)> {
        self.run("SAVEPOINT attempt").await;
        let outcome = self.connection.execute(sql, &[]).await;
        self.run("ROLLBACK TO attempt").await;
        outcome.map_err(|error| {
            let code = error.code().unwrap_or_else(|| panic!("{sql}: {error}")).to_owned();
            (code, format!("{error} {:?} {:?}", error.detail(), error.hint()))
        })
    }

    #[track_caller]
    fn denied(outcome: &Result<u64, (String, String)>, sql: &str) {
        assert!(matches!(outcome, Err((code, _)) if code == DENIED), "{sql}: {outcome:?}");
    }

    /// Asserts that each statement is denied.
    async fn all_denied(&mut self, statements: &[&str]) {
        assert!(!statements.is_empty());
        for sql in statements {
            let outcome = self.attempt(sql).await;
            Self::denied(&outcome, &format!("{} ({})", sql, self.context));
        }
    }
}

/// Returns every table of tenantry with its schema.
async fn tables(database: &Database) -> Vec<String> {
    let connection = database.connect_admin().await;
    let tables: Vec<String> = connection
        .query(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
         WHERE schemaname IN ('app', 'auth', 'billing', 'audit') ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    connection.close().await;
    assert!(tables.len() >= 13, "{tables:?}");
    tables
}
