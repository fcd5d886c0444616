//! The load: connections that each send their next request when the last one is answered, over
//! plain sockets, so that the generator takes as little as it can of the processor that it shares
//! with what it measures.

use std::{
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

/// How much, and for how long.
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) seconds: u32,
}

/// Measures the server with requests of random organizations `among` those.
pub(crate) async fn run(
    server: &Server,
    seeded: &Seeded,
    workload: Workload,
    load: &Load,
    among: RangeInclusive<u32>,
) -> Result<Figures, Failure> {
    let among = &among;
    let meter = Meter::start(Some(server.pid()), seeded.postgres_pid(), std::process::id())?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(load.seconds.into());
    let connections = (0..load.connections).map(|_| async move {
        let mut connection = Connection::open(server.address()).await?;
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let n = fastrand::u32(among.clone());
            let (project, _) = seeded.any_project(n);
            let sent = Instant::now();
            connection.ask(seeded.token(n), n, &workload.body(project)).await?;
            latencies.push(u32::try_from(sent.elapsed().as_micros())?);
        }
        Ok::<_, Failure>(latencies)
    });
    let latencies = futures_util::future::try_join_all(connections).await?.concat();
    let took = begun.elapsed();
    let requests = latencies.len() as u64;
    Ok(Figures::of(latencies, requests, took, meter.stop()?))
}

/// One request for each organization.
pub(crate) async fn warm_up(server: &Server, seeded: &Seeded) -> Result<(), Failure> {
    let connections = (0..16).map(|first| async move {
        let mut connection = Connection::open(server.address()).await?;
        for n in (1 + first..=seeded.organizations).step_by(16) {
            let (project, _) = seeded.any_project(n);
            connection.ask(seeded.token(n), n, &Workload::Project.body(project)).await?;
        }
        Ok::<_, Failure>(())
    });
    futures_util::future::try_join_all(connections).await?;
    Ok(())
}

/// One request on a connection of its own.
pub(crate) async fn once(
    server: &Server,
    seeded: &Seeded,
    n: u32,
    body: &str,
) -> Result<String, Failure> {
    let mut connection = Connection::open(server.address()).await?;
    Ok(connection.ask(seeded.token(n), n, body).await?.to_owned())
}

/// A connection that is kept for the next request.
pub(crate) struct Connection {
    stream: TcpStream,
    request: String,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: String::new(), answer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request of the owner of organization `n`; answers with the body, in which nothing
    /// has failed.
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
        self.answer.clear();
        let (head, length) = loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(head) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break (head + 4, content_length(&self.answer[..head])?);
            }
        };
        while self.answer.len() < head + length {
            self.stream.read_buf(&mut self.answer).await?;
        }
        let text = std::str::from_utf8(&self.answer[head..])?;
        if !self.answer.starts_with(b"HTTP/1.1 200") || text.contains("\"errors\"") {
            return Err(String::from_utf8_lossy(&self.answer).into_owned().into());
        }
        Ok(text)
    }
}

fn content_length(head: &[u8]) -> Result<usize, Failure> {
    let head = std::str::from_utf8(head)?;
    let line = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Ok(line.ok_or("an answer without content-length")?.trim().parse()?)
}
