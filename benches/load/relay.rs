//! A relay between a server and PostgreSQL that counts statements and round trips.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// The traffic of a request to PostgreSQL.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Statements that PostgreSQL has completed, including those that begin and end the
    /// transaction.
    pub statements: u32,
    /// Round trips: how often the server sent something after it had received every outstanding
    /// response.
    pub waits: u32,
}

/// The name of PostgreSQL's socket in its directory.
const SOCKET: &str = ".s.PGSQL.5432";

/// Counts the traffic until it is dropped.
pub struct Relay {
    counted: Arc<Mutex<Traffic>>,
    task: tokio::task::AbortHandle,
}

impl Relay {
    /// Listens in the directory `folder` and forwards to the server that listens in `postgres`.
    pub fn between(folder: &Path, postgres: &Path) -> std::io::Result<Self> {
        let counted: Arc<Mutex<Traffic>> = Arc::default();
        let listener = UnixListener::bind(folder.join(SOCKET))?;
        let task = tokio::spawn(relay(listener, postgres.join(SOCKET), Arc::clone(&counted)));
        Ok(Self { counted, task: task.abort_handle() })
    }

    /// Returns the traffic since the last call.
    pub fn take(&self) -> Traffic {
        std::mem::take(&mut *lock(&self.counted))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(counted: &Mutex<Traffic>) -> std::sync::MutexGuard<'_, Traffic> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn relay(listener: UnixListener, target: PathBuf, counted: Arc<Mutex<Traffic>>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = UnixStream::connect(&target).await else { return };
        tokio::spawn(pass(client, server, Arc::clone(&counted)));
    }
}

/// Forwards bytes in both directions. Only connections that open sessions are counted, because only
/// they serve requests.
async fn pass(
    mut client: UnixStream,
    mut server: UnixStream,
    counted: Arc<Mutex<Traffic>>,
) -> std::io::Result<()> {
    // The buffer holds a whole statement, so that the searched name is not split between two reads.
    let (mut sent, mut received) = (Vec::with_capacity(64 * 1024), Vec::new());
    let mut of_requests = false;
    let mut listening = true;
    loop {
        tokio::select! {
            read = client.read_buf(&mut sent) => {
                if read? == 0 {
                    return Ok(());
                }
                of_requests |= sent.windows(12).any(|text| text == b"open_request");
                if of_requests && listening {
                    lock(&counted).waits += 1;
                }
                listening = false;
                server.write_all(&sent).await?;
                sent.clear();
            }
            read = server.read_buf(&mut received) => {
                let from = received.len() - read?;
                if from == received.len() {
                    return Ok(());
                }
                client.write_all(&received[from..]).await?;
                // `N`, which refuses encryption, is the one response that has no length.
                if received == b"N" {
                    received.clear();
                    listening = true;
                }
                while let Some((kind, length)) = message(&received) {
                    // CommandComplete (PostgreSQL manual, section 55.7), once for each statement.
                    if of_requests && kind == b'C' {
                        lock(&counted).statements += 1;
                    }
                    received.drain(..length);
                    listening = true;
                }
            }
        }
    }
}

/// Returns the kind and the length of the first complete message.
fn message(bytes: &[u8]) -> Option<(u8, usize)> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize + 1;
    (bytes.len() >= length).then(|| (bytes[0], length))
}
