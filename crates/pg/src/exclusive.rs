//! Connections that need a session: roles, settings and locks that outlive a transaction. A pooler
//! in transaction mode would leave them on a connection that other clients use next.

use std::{fmt, time::Duration};

use tokio::time::timeout;

use crate::{Client, ConnectOptions, Error, Result};

/// How long the probe may take. A pooler without a free connection lets its queries wait.
const PROBE_WAIT: Duration = Duration::from_secs(10);

/// A pooler whose connections take turns may need a second round to show itself.
const ROUNDS: usize = 3;

impl Client {
    /// Connects, and refuses a pooler that shares connections between clients. Nothing has changed
    /// on the connection then.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and when the address leads to such a pooler, or admits no
    /// second connection.
    pub async fn connect_exclusively(options: &ConnectOptions) -> Result<Self> {
        let client = Self::connect(options).await?;
        let two = |reason: &dyn fmt::Display| {
            Error::configuration(format!(
                "{} must admit two connections of {} at the same time: {reason}",
                options.address(),
                options.user()
            ))
        };
        let mut other = Self::connect(options)
            .await
            .map_err(|error| if error.has_code(&["53300"]) { two(&error) } else { error })?;
        let probe = timeout(PROBE_WAIT, is_shared(&client, &mut other)).await;
        let is_shared = probe.map_err(|_| two(&"the second one got no answer"))??;
        other.close().await;
        if is_shared {
            return Err(Error::configuration(format!(
                "{} is a pooler in transaction mode, which gives a connection to other clients after each transaction. \
                 Use the address of PostgreSQL itself, or of a pooler in session mode",
                options.address()
            )));
        }
        Ok(client)
    }
}

/// Whether another client is served by the backend of this one, or this one changes its backend
/// while the other client is in a transaction.
async fn is_shared(client: &Client, other: &mut Client) -> Result<bool> {
    let backend = async |client: &Client| {
        client.query_one::<i32>("SELECT pg_catalog.pg_backend_pid()", &[]).await
    };
    for _ in 0..ROUNDS {
        let own = backend(client).await?;
        let transaction = other.begin().await?;
        let is_shared = backend(&transaction).await? == own || backend(client).await? != own;
        transaction.roll_back().await?;
        if is_shared {
            return Ok(true);
        }
    }
    Ok(false)
}
