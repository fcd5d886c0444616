//! What a database must be to be migrated. It is checked before anything changes.

use pg::Client;

use crate::error::Error;

/// Why the database cannot be migrated. Null: it can.
const PROBLEM: &str = "SELECT CASE
    WHEN current_setting('server_version_num')::int < 150000
    THEN format('it runs PostgreSQL %s. Use version 15 or later.', current_setting('server_version'))
    WHEN pg_is_in_recovery()
    THEN 'it is a standby. Use the address of the primary.'
    WHEN current_setting('server_encoding') <> 'UTF8'
    THEN format('it has the encoding %s. Create it with TEMPLATE template0 ENCODING ''UTF8''.',
                current_setting('server_encoding'))
    END";

/// Refuses an old server, a standby, and a database that cannot store every text.
pub(crate) async fn check(client: &Client) -> Result<(), Error> {
    match client.query_one::<Option<String>>(PROBLEM, &[]).await? {
        Some(problem) => Err(Error::Unsuitable(problem)),
        None => Ok(()),
    }
}
