//! How a noisy organization affects a quiet one. The same flood comes once from one organization
//! and once from fifty, while another organization requests a project at intervals. A separate
//! process of lower priority sends the flood.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Failure, Options,
    client::Connection,
    seed::{self, Seeded},
    server::Server,
    workload::Workload,
};

/// Organizations that the spread flood comes from.
const SPREAD_ORGANIZATIONS: u32 = 50;

/// Connections of the flood.
const CONNECTIONS: usize = 64;

/// Pause between two requests of the quiet organization.
const INTERVAL: Duration = Duration::from_millis(10);

/// A process that floods the server.
#[derive(Debug, clap::Args)]
pub(crate) struct Flood {
    /// The server's address, in the process that floods.
    #[arg(long, hide = true)]
    flood: Option<SocketAddr>,
    #[arg(long, hide = true, default_value_t = 1)]
    flood_organizations: u32,
}

impl Flood {
    /// Floods the server until killed, if this process is the flood.
    pub(crate) fn run(&self) -> Option<Result<(), Failure>> {
        let address = self.flood?;
        let organizations = self.flood_organizations;
        Some((|| {
            let tokens = seed::tokens(organizations)?;
            let body = Workload::Dashboard.body(uuid::Uuid::nil());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (tokens, body) = (&tokens, &body);
            let connections = (0..CONNECTIONS).map(|first| async move {
                let mut connection = Connection::open(address).await?;
                for n in (0..organizations).cycle().skip(first) {
                    // The flood ignores responses and errors.
                    let _ = connection.ask(&tokens[(n * seed::USERS) as usize], n + 1, body).await;
                }
                Ok::<_, Failure>(())
            });
            runtime.block_on(futures_util::future::try_join_all(connections))?;
            Ok(())
        })())
    }

    fn begin(server: &Server, organizations: u32) -> Result<FloodProcess, Failure> {
        let child = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["--flood", &server.address().to_string()])
            .args(["--flood-organizations", &organizations.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(FloodProcess(child))
    }
}

struct FloodProcess(Child);

impl FloodProcess {
    /// A flood that ended by itself would invalidate the measurement.
    fn end(mut self) -> Result<(), Failure> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the flood ended early: {status}").into()),
        }
    }
}

impl Drop for FloodProcess {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures and prints the latencies of the quiet organization.
pub(crate) fn run(seeded: &Seeded, options: &Options) -> Result<(), Failure> {
    let Options { seconds, rounds, database_connections, .. } = *options;
    let server = Server::start(seeded, database_connections)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(crate::client::warm_up(&server, seeded))?;
    let quiet = seeded.organizations;
    println!("latency of a quiet organization, in ms     p50    p99");
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let mut last = [0.0; 2];
        for (measured, organizations) in last.iter_mut().zip([SPREAD_ORGANIZATIONS, 1]) {
            let flood = Flood::begin(&server, organizations)?;
            let waited = runtime.block_on(ask(&server, seeded, quiet, seconds))?;
            flood.end()?;
            *measured = percentile(&waited, 0.99);
            println!(
                "round {round}, flood of {organizations:2} organizations     {:8.1} {:8.1}",
                percentile(&waited, 0.5),
                *measured,
            );
        }
        ratios.push(last[1] / last[0]);
    }
    println!(
        "p99 under a neighbour's flood / under the same flood spread: {:.2}",
        median(&mut ratios)
    );
    Ok(())
}

/// Returns the latencies in milliseconds, sorted.
async fn ask(server: &Server, seeded: &Seeded, n: u32, seconds: u32) -> Result<Vec<f64>, Failure> {
    let (project, _) = seeded.any_project(n);
    let body = Workload::Project.body(project);
    let mut connection = Connection::open(server.address()).await?;
    // The flood has started by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let mut waited = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        connection.ask(seeded.token(n, 1), n, &body).await?;
        waited.push(sent.elapsed().as_secs_f64() * 1_000.0);
        tokio::time::sleep(INTERVAL).await;
    }
    waited.sort_by(f64::total_cmp);
    Ok(waited)
}

/// `values` must be sorted.
fn percentile(values: &[f64], share: f64) -> f64 {
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(values, 0.5)
}
