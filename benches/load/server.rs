//! The server under test: the release binary as operators run it, and a relay that counts what it says to PostgreSQL.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::{
    Failure, client, cost,
    seed::{SECRET, Seeded},
    workload::Workload,
};

/// A running server.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// From the start of the process until it took connections.
    pub(crate) started_in: Duration,
}

impl Server {
    pub(crate) fn start(seeded: &Seeded) -> Result<Self, Failure> {
        Self::start_at(&seeded.url())
    }

    fn start_at(database: &str) -> Result<Self, Failure> {
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenantry"))
            .arg("serve")
            .env_clear()
            .env("DATABASE_URL", database)
            .env("JWT_SECRET", SECRET)
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child.stderr.take().ok_or("no output")?;
        let mut lines = BufReader::new(output).lines();
        let address = loop {
            let Some(line) = lines.next() else {
                return Err("the server ended".into());
            };
            let line: serde_json::Value = serde_json::from_str(&line?)?;
            if let Some(address) = line["fields"]["address"].as_str() {
                break address.parse()?;
            }
        };
        let started_in = begun.elapsed();
        // Somebody must read on, or the server would wait for them.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address, started_in })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn memory(&self) -> Result<f64, Failure> {
        cost::memory(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a request says to PostgreSQL.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Talk {
    /// Statements that PostgreSQL has answered, those that begin and end the transaction included.
    pub(crate) statements: u32,
    /// How often the server has sent something after it had heard of all that it sent before.
    pub(crate) waits: u32,
}

/// Counts statements and waits of one request, on a server that has seen such requests before.
pub(crate) async fn talk(seeded: &Seeded, workload: Workload) -> Result<Talk, Failure> {
    let folder = tempfile::tempdir()?;
    let counted: Arc<Mutex<Talk>> = Arc::default();
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432"))?;
    let target = seeded.socket().join(".s.PGSQL.5432");
    let relay = tokio::spawn(relay(listener, target, Arc::clone(&counted)));
    let url = seeded.url();
    let (address, _) = url.split_once("?host=").ok_or("an odd address")?;
    let database = format!("{address}?host={}", path(folder.path()));
    let server = tokio::task::spawn_blocking(move || Server::start_at(&database)).await??;
    let mut talk = Talk::default();
    for _ in 0..30 {
        *lock(&counted) = Talk::default();
        let (project, _) = seeded.any_project(1);
        client::once(&server, seeded, 1, &workload.body(project)).await?;
        // The rollback of what was only read comes after the answer.
        tokio::time::sleep(Duration::from_millis(20)).await;
        talk = *lock(&counted);
    }
    relay.abort();
    seeded.forget_created().await?;
    Ok(talk)
}

fn path(path: &Path) -> String {
    path.display().to_string().replace('/', "%2F")
}

fn lock(counted: &Mutex<Talk>) -> std::sync::MutexGuard<'_, Talk> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn relay(listener: UnixListener, target: std::path::PathBuf, counted: Arc<Mutex<Talk>>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = UnixStream::connect(&target).await else { return };
        tokio::spawn(pass(client, server, Arc::clone(&counted)));
    }
}

/// Passes bytes on in both directions. Only connections of requests are counted, which are those that open sessions.
async fn pass(
    mut client: UnixStream,
    mut server: UnixStream,
    counted: Arc<Mutex<Talk>>,
) -> std::io::Result<()> {
    let (mut sent, mut received) = (Vec::new(), Vec::new());
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
