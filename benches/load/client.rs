//! The load generator: each connection sends its next request when the response to the last one
//! arrives. It uses plain sockets, because it shares the processors with what it measures.

use std::{
    collections::HashSet,
    net::SocketAddr,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    Failure, cost::Meter, report::Figures, seed::Seeded, server::Server, workload::Workload,
};

/// Size and duration of a load.
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) seconds: u32,
    /// Whether every user sends requests, and not only the owners.
    pub(crate) wide: bool,
}

impl Load {
    /// Returns a random user of an organization that may send the request.
    fn any_user(&self, workload: Workload) -> u32 {
        if self.wide { fastrand::u32(1..=workload.users()) } else { 1 }
    }
}

/// Measures the server with requests of random organizations out of `among`.
pub(crate) async fn run(
    server: &Server,
    seeded: &Seeded,
    workload: Workload,
    load: &Load,
    among: RangeInclusive<u32>,
) -> Result<Figures, Failure> {
    let among = &among;
    let meter = Meter::start(Some(server.pid()), seeded.postgres_pid(), std::process::id())?;
    let started = Instant::now();
    let end = started + Duration::from_secs(load.seconds.into());
    let connections = (0..load.connections).map(|_| async move {
        let mut connection = Connection::open(server.address()).await?;
        let (mut latencies, mut callers) = (Vec::new(), Vec::new());
        while Instant::now() < end {
            let n = fastrand::u32(among.clone());
            let (project, _) = seeded.any_project(n);
            let part = workload.one_of();
            let k = load.any_user(part);
            let sent = Instant::now();
            connection.ask(seeded.token(n, k), n, &part.body(project)).await?;
            latencies.push(u32::try_from(sent.elapsed().as_micros())?);
            callers.push((n, k));
        }
        Ok::<_, Failure>((latencies, callers))
    });
    let done = futures_util::future::try_join_all(connections).await?;
    let took = started.elapsed();
    let cost = meter.stop()?;
    let (latencies, callers): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let (latencies, callers) = (latencies.concat(), callers.concat());
    let requests = latencies.len() as u64;
    let organizations: HashSet<u32> = callers.iter().map(|(n, _)| *n).collect();
    let callers: HashSet<(u32, u32)> = callers.into_iter().collect();
    let mut figures = Figures::of(latencies, requests, took, cost);
    figures.callers = callers.len() as f64 / requests as f64;
    figures.organizations = organizations.len() as f64 / requests as f64;
    Ok(figures)
}

/// Opens the server's connections and prepares its statements, with requests of one organization.
pub(crate) async fn prepare(
    server: &Server,
    seeded: &Seeded,
    workload: Workload,
) -> Result<(), Failure> {
    let connections = (0..32).map(|_| async move {
        let mut connection = Connection::open(server.address()).await?;
        for _ in 0..20 {
            let (project, _) = seeded.any_project(1);
            connection.ask(seeded.token(1, 1), 1, &workload.body(project)).await?;
        }
        Ok::<_, Failure>(())
    });
    futures_util::future::try_join_all(connections).await?;
    Ok(())
}

/// Sends one request for each organization.
pub(crate) async fn warm_up(server: &Server, seeded: &Seeded) -> Result<(), Failure> {
    let connections = (0..16).map(|first| async move {
        let mut connection = Connection::open(server.address()).await?;
        for n in (1 + first..=seeded.organizations).step_by(16) {
            let (project, _) = seeded.any_project(n);
            connection.ask(seeded.token(n, 1), n, &Workload::Project.body(project)).await?;
        }
        Ok::<_, Failure>(())
    });
    futures_util::future::try_join_all(connections).await?;
    Ok(())
}

/// Sends one request on a new connection.
pub(crate) async fn once(
    server: &Server,
    seeded: &Seeded,
    n: u32,
    body: &str,
) -> Result<String, Failure> {
    let mut connection = Connection::open(server.address()).await?;
    Ok(connection.ask(seeded.token(n, 1), n, body).await?.to_owned())
}

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    request: String,
    response: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: String::new(), response: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request as the owner of organization `n`. Returns the body and fails if it reports
    /// an error.
    pub(crate) async fn ask(&mut self, token: &str, n: u32, body: &str) -> Result<&str, Failure> {
        use std::fmt::Write as _;
        self.request.clear();
        write!(
            self.request,
            "POST /org/org-{n}/graphql HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
        )?;
        self.stream.write_all(self.request.as_bytes()).await?;
        self.response.clear();
        let (head, length) = loop {
            if self.stream.read_buf(&mut self.response).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(head) = self.response.windows(4).position(|four| four == b"\r\n\r\n") {
                break (head + 4, content_length(&self.response[..head])?);
            }
        };
        while self.response.len() < head + length {
            self.stream.read_buf(&mut self.response).await?;
        }
        let text = std::str::from_utf8(&self.response[head..])?;
        if !self.response.starts_with(b"HTTP/1.1 200") || text.contains("\"errors\"") {
            return Err(String::from_utf8_lossy(&self.response).into_owned().into());
        }
        Ok(text)
    }
}

fn content_length(head: &[u8]) -> Result<usize, Failure> {
    let head = std::str::from_utf8(head)?;
    let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Ok(line.ok_or("a response without content-length")?.trim().parse()?)
}
