//! One connection, for commands and migrations: statements with parameters, and transactions.

use std::{future::poll_fn, ops::Deref, time::Duration};

use futures_util::{FutureExt, Stream, TryStreamExt};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    AsyncMessage,
    types::{ToSql, Type},
};

use crate::{ConnectOptions, Error, FromRow, Parameter, Result, Row, error::whole, tls::Connector};

/// A connection. Statements execute in the order in which they were begun. Dropping it closes the
/// socket, which ends a running statement.
#[derive(Debug)]
pub struct Client {
    client: tokio_postgres::Client,
    /// The task that reads from and writes to the socket.
    task: Task,
}

/// A connection's task, which ends with the connection.
#[derive(Debug)]
pub(crate) struct Task(Option<JoinHandle<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Connects, and passes on the payloads of notifications.
pub(crate) async fn open(
    connector: &Connector,
    mut notified: impl FnMut(&str) + Send + 'static,
) -> Result<(tokio_postgres::Client, Task)> {
    let (client, mut connection) = connector.connect().await?;
    let task = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notification(notification)) => notified(notification.payload()),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = whole(&error), "a database connection broke");
                    return;
                }
            }
        }
    });
    Ok((client, Task(Some(task))))
}

/// How long connecting may take.
const CONNECT_WAIT: Duration = Duration::from_secs(30);

type Typed<'value> = Vec<(&'value (dyn ToSql + Sync), Type)>;

fn typed<'value>(parameters: &[&'value dyn Parameter]) -> Typed<'value> {
    parameters.iter().map(|parameter| parameter.typed()).collect()
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or refuses the login.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        Self::open(options, |_| ()).await
    }

    pub(crate) async fn open(
        options: &ConnectOptions,
        notified: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self> {
        let connector = Connector::new(options)?;
        let opened = timeout(CONNECT_WAIT, open(&connector, notified)).await;
        let silent = |_| Error::connection(format!("{} does not respond", options.host()));
        let (client, task) = opened.map_err(silent)??;
        Ok(Self { client, task })
    }

    /// Runs statements without parameters, separated by semicolons.
    ///
    /// # Errors
    ///
    /// When one of them fails; the later ones are not executed.
    pub async fn batch(&self, sql: &str) -> Result<()> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Runs a statement, and returns the number of rows that it returned or changed.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub async fn execute(&self, sql: &str, parameters: &[&dyn Parameter]) -> Result<u64> {
        Ok(self.client.execute_typed(sql, &typed(parameters)).await?)
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    ///
    /// When it fails, or a row cannot be read as `R`.
    pub async fn query<R: FromRow>(
        &self,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Vec<R>> {
        let rows = self.client.query_typed(sql, &typed(parameters)).await?;
        rows.into_iter().map(|row| R::from_row(Row(row))).collect()
    }

    /// Runs a statement and returns its first row, if there is one.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn query_opt<R: FromRow>(
        &self,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<Option<R>> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// Runs a statement and returns its first row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and when there is no row.
    pub async fn query_one<R: FromRow>(
        &self,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<R> {
        let row = self.query_opt(sql, parameters).await?;
        row.ok_or_else(|| Error::statement("the statement returned no row"))
    }

    /// Runs a statement and returns its rows as they arrive.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn stream<R: FromRow>(
        &self,
        sql: &str,
        parameters: &[&dyn Parameter],
    ) -> Result<impl Stream<Item = Result<R>> + use<R>> {
        let rows = self.client.query_typed_raw(sql, typed(parameters)).await?;
        Ok(rows.map_err(Error::from).and_then(async |row| R::from_row(Row(row))))
    }

    /// Begins a transaction, which its drop rolls back.
    ///
    /// # Errors
    ///
    /// When BEGIN fails.
    pub async fn begin(&mut self) -> Result<ClientTransaction<'_>> {
        // Before the wait, so that a cancelled BEGIN is rolled back.
        let transaction = ClientTransaction { client: self, is_open: true };
        transaction.batch("BEGIN").await?;
        Ok(transaction)
    }

    /// Closes the connection, and returns when that is done.
    pub async fn close(self) {
        let Self { client, mut task } = self;
        drop(client);
        if let Some(task) = task.0.take() {
            // It has ended, or was cancelled with its runtime.
            let _ = task.await;
        }
    }
}

/// An open transaction. It is the connection as long as it lasts.
#[derive(Debug)]
pub struct ClientTransaction<'client> {
    client: &'client mut Client,
    is_open: bool,
}

impl ClientTransaction<'_> {
    /// Commits.
    ///
    /// # Errors
    ///
    /// When nothing was committed, or the connection broke, and the outcome is unknown.
    pub async fn commit(mut self) -> Result<()> {
        // COMMIT of a failed transaction answers ROLLBACK without an error. A statement before it
        // fails.
        self.batch("SELECT 1; COMMIT").await?;
        self.is_open = false;
        Ok(())
    }

    /// Rolls back, and returns when that is done.
    ///
    /// # Errors
    ///
    /// When the connection is lost, and the transaction with it.
    pub async fn roll_back(mut self) -> Result<()> {
        self.batch("ROLLBACK").await?;
        self.is_open = false;
        Ok(())
    }
}

impl Deref for ClientTransaction<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
    }
}

impl Drop for ClientTransaction<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // The first poll sends the statement; later ones execute after it.
            let _ = self.client.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}
