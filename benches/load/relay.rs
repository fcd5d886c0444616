//! A relay between a server and PostgreSQL that counts what they say to each other.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// What a request says to PostgreSQL.
#[derive(Clone, Copy, Debug, Default)]
pub struct Talk {
    /// Statements that PostgreSQL has answered, those that begin and end the transaction included.
    pub statements: u32,
    /// How often the server has sent something after it had heard of all that it sent before.
    pub waits: u32,
}

/// The name of PostgreSQL's socket in its folder.
const SOCKET: &str = ".s.PGSQL.5432";

/// Counts for as long as it lives.
pub struct Relay {
    counted: Arc<Mutex<Talk>>,
    task: tokio::task::AbortHandle,
}

impl Relay {
    /// Listens in one folder, and passes on to the server that listens in another.
    pub fn between(folder: &Path, postgres: &Path) -> std::io::Result<Self> {
        let counted: Arc<Mutex<Talk>> = Arc::default();
        let listener = UnixListener::bind(folder.join(SOCKET))?;
        let task = tokio::spawn(relay(listener, postgres.join(SOCKET), Arc::clone(&counted)));
        Ok(Self { counted, task: task.abort_handle() })
    }

    /// What was said since this was asked last.
    pub fn take(&self) -> Talk {
        std::mem::take(&mut *lock(&self.counted))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(counted: &Mutex<Talk>) -> std::sync::MutexGuard<'_, Talk> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn relay(listener: UnixListener, target: PathBuf, counted: Arc<Mutex<Talk>>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = UnixStream::connect(&target).await else { return };
        tokio::spawn(pass(client, server, Arc::clone(&counted)));
    }
}

/// Passes bytes on in both directions. Only connections of requests are counted, which are those
/// that open sessions.
async fn pass(
    mut client: UnixStream,
    mut server: UnixStream,
    counted: Arc<Mutex<Talk>>,
) -> std::io::Result<()> {
    // Room for a whole statement: the name that is looked for must not be read in two parts.
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
                // "No" to the question for encryption is the one answer that has no length.
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

/// The kind and the length of the first whole message.
fn message(bytes: &[u8]) -> Option<(u8, usize)> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize + 1;
    (bytes.len() >= length).then(|| (bytes[0], length))
}
