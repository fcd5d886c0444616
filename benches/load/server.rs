//! The server under test: the release binary as operators run it, and a relay that counts its
//! traffic to PostgreSQL.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Failure, client, cost,
    relay::{Relay, Traffic},
    seed::{SECRET, Seeded},
    workload::Workload,
};

/// A running server.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    /// Time from the start of the process until it accepted connections.
    pub(crate) started_in: Duration,
}

impl Server {
    /// Starts the server, with this number of connections to PostgreSQL instead of its default.
    pub(crate) fn start(seeded: &Seeded, connections: Option<usize>) -> Result<Self, Failure> {
        Self::start_at(&seeded.url(), "", connections)
    }

    /// Starts the server with dedicated databases, as `DATABASES` names them.
    pub(crate) fn start_at(
        database: &str,
        databases: &str,
        connections: Option<usize>,
    ) -> Result<Self, Failure> {
        let binary = Path::new(env!("CARGO_BIN_EXE_tenantry"));
        Self::start_from(binary, database, databases, connections)
    }

    /// Starts another binary of the server.
    pub(crate) fn start_from(
        binary: &Path,
        database: &str,
        databases: &str,
        connections: Option<usize>,
    ) -> Result<Self, Failure> {
        let started = Instant::now();
        let mut child = Command::new(binary)
            .arg("serve")
            .env_clear()
            .env("DATABASE_URL", database)
            .env("DATABASES", databases)
            .envs(connections.map(|most| ("DATABASE_MAX_CONNECTIONS", most.to_string())))
            .env("JWT_SECRET", SECRET)
            .env("SECRET_KEY", SECRET)
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            // All load comes from one address and few users, so their limits are lifted.
            .env("MAX_OPERATIONS", u32::MAX.to_string())
            .env("MAX_OPERATIONS_BY_ADDRESS", u32::MAX.to_string())
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
        let started_in = started.elapsed();
        // The server would block on a full pipe.
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
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts the statements and round trips of one request on a warm server.
pub(crate) async fn traffic(seeded: &Seeded, workload: Workload) -> Result<Traffic, Failure> {
    let folder = tempfile::tempdir()?;
    let relay = Relay::between(folder.path(), &seeded.socket())?;
    let url = seeded.url();
    let (address, _) = url.split_once("?host=").ok_or("unexpected address")?;
    let database = format!("{address}?host={}", path(folder.path()));
    let server =
        tokio::task::spawn_blocking(move || Server::start_at(&database, "", Some(1))).await??;
    let mut traffic = Traffic::default();
    for _ in 0..30 {
        relay.take();
        let (project, _) = seeded.any_project(1);
        client::once(&server, seeded, 1, &workload.body(project)).await?;
        // A read-only transaction is rolled back after the response.
        tokio::time::sleep(Duration::from_millis(20)).await;
        traffic = relay.take();
    }
    seeded.delete_created().await?;
    Ok(traffic)
}

fn path(path: &Path) -> String {
    path.display().to_string().replace('/', "%2F")
}
