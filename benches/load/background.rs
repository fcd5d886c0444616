//! PostgreSQL's CPU time by the kind of work. Each pool of the server has its own application name,
//! so requests and background work have different connections.

use std::{collections::BTreeMap, time::Duration};

use pg::Client;

use crate::{Failure, cost::process_time, seed::Seeded};

/// How often the processes are read. A process that ends between two readings is counted up to the
/// last one.
const INTERVAL: Duration = Duration::from_secs(1);

/// The processes with the name of their application, or of their task in PostgreSQL.
const PROCESSES: &str = "SELECT pid, coalesce(nullif(application_name, ''), backend_type)
    FROM pg_stat_activity WHERE pid <> pg_backend_pid()";

/// The CPU time of PostgreSQL's processes by name.
#[derive(Debug, Default)]
pub(crate) struct Processes(BTreeMap<(i32, String), Span>);

/// The CPU time of a process at the first and at the last reading.
#[derive(Debug)]
struct Span {
    first: Duration,
    last: Duration,
}

impl Processes {
    /// Reads the processes at intervals until `load` is done.
    pub(crate) async fn during<T>(
        seeded: &Seeded,
        load: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Self), Failure> {
        let connection = Client::connect(&seeded.admin()).await?;
        let mut processes = Self::default();
        processes.read(&connection, true).await?;
        let reading = async {
            loop {
                tokio::time::sleep(INTERVAL).await;
                processes.read(&connection, false).await?;
            }
        };
        let done: Result<T, Failure> = tokio::select! {
            done = load => done,
            failed = reading => failed,
        };
        let done = done?;
        processes.read(&connection, false).await?;
        connection.close().await;
        Ok((done, processes))
    }

    async fn read(&mut self, connection: &Client, is_first: bool) -> Result<(), Failure> {
        for process in connection.query::<(i32, String)>(PROCESSES, &[]).await? {
            // One that has just ended has no time to read.
            let Ok(now) = process_time(u32::try_from(process.0)?) else { continue };
            let first = if is_first { now } else { Duration::ZERO };
            self.0.entry(process).or_insert(Span { first, last: now }).last = now;
        }
        Ok(())
    }

    /// The percentage of each name, the largest first.
    pub(crate) fn shares(&self) -> Vec<(&str, f64)> {
        let mut times = BTreeMap::<&str, f64>::new();
        for ((_, name), Span { first, last }) in &self.0 {
            *times.entry(name).or_default() += last.saturating_sub(*first).as_secs_f64();
        }
        let total: f64 = times.values().sum();
        let mut shares: Vec<_> =
            times.into_iter().map(|(name, time)| (name, 100.0 * time / total)).collect();
        shares.sort_by(|one, other| other.1.total_cmp(&one.1));
        shares
    }
}
