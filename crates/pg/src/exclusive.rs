//! Connections that need a session: roles, settings and locks that outlive a transaction. A pooler
//! in transaction mode would leave them on a connection that other clients use next.

use crate::{Client, ConnectOptions, Error, Result};

/// A pooler whose connections take turns may need a second round to show itself.
const ROUNDS: usize = 3;

impl Client {
    /// Connects, and refuses a pooler that shares connections between clients. Nothing has changed
    /// on the connection then.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and when the address leads to such a pooler.
    pub async fn connect_exclusively(options: &ConnectOptions) -> Result<Self> {
        let client = Self::connect(options).await?;
        if is_shared(&client, options).await? {
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
async fn is_shared(client: &Client, options: &ConnectOptions) -> Result<bool> {
    let mut other = Client::connect(options).await?;
    let backend = async |client: &Client| {
        client.query_one::<i32>("SELECT pg_catalog.pg_backend_pid()", &[]).await
    };
    let mut is_shared = false;
    for _ in 0..ROUNDS {
        let own = backend(client).await?;
        let transaction = other.begin().await?;
        is_shared = backend(&transaction).await? == own || backend(client).await? != own;
        transaction.roll_back().await?;
        if is_shared {
            break;
        }
    }
    other.close().await;
    Ok(is_shared)
}
