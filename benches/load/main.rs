//! How fast the server is compared with PostgreSQL executing the same statements. The server and
//! pgbench run in turn on one machine and one database. Figures are medians over the rounds, with
//! their ranges; docs/performance.md explains them.
//!
//! `cargo bench --bench load -- --help`

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts and durations are far from the limits of their types"
)]

mod background;
mod client;
mod cost;
mod dedicated_schema;
mod fairness;
mod floor;
mod placement;
mod relay;
mod report;
mod requests;
mod seed;
mod server;
mod workload;

use std::path::PathBuf;

use background::Processes;
use clap::Parser;
use client::Load;
use report::{Report, Round};
use seed::Seeded;
use server::Server;
use workload::Workload;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compares the server with pgbench on the same statements.
#[derive(Debug, Parser)]
#[command(about)]
struct Options {
    /// Sizes of the database: organizations, each with 20 projects, 5 members and 100 audit rows.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    organizations: Vec<u32>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Number of measurements of each kind.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Workloads to measure.
    #[arg(long, value_delimiter = ',', default_value = "w1,w2,w3,w4,w5")]
    workloads: Vec<Workload>,
    /// Numbers of concurrent connections.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    connections: Vec<usize>,
    /// Seconds of one more load at the end. Memory after each third is reported, and the shares of
    /// requests and of background work in PostgreSQL's CPU time.
    #[arg(long, default_value_t = 0)]
    soak: u32,
    /// Connections to PostgreSQL that the server may use (`DATABASE_MAX_CONNECTIONS`), instead of
    /// its default.
    #[arg(long)]
    database_connections: Option<usize>,
    /// Another server binary, for example from before a change, measured in each round as well.
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// Measures how a noisy organization affects a quiet one, and nothing else.
    #[arg(long)]
    fairness: bool,
    /// Measures the cost of placements where this many organizations have dedicated schemas, and
    /// nothing else.
    #[arg(long, value_name = "ORGANIZATIONS")]
    schemas: Option<u32>,
    #[command(flatten)]
    flood: fairness::Flood,
    /// Cargo passes this flag to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if let Some(flooded) = options.flood.run() {
        return flooded;
    }
    for size in &options.organizations {
        // PostgreSQL ends with the thread that started it, so the main thread starts it.
        let seeded = Seeded::create(*size)?;
        if let Some(schemas) = options.schemas {
            placement::run(&seeded, &options, schemas)?;
        } else if options.fairness {
            fairness::run(&seeded, &options)?;
        } else {
            measure(&options, &seeded)?;
        }
    }
    Ok(())
}

fn measure(options: &Options, seeded: &Seeded) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(floor::create_role(seeded))?;
    let bench = Bench { options, seeded, runtime };
    bench.wide()?;
    bench.warm()
}

/// The measurements on one database.
struct Bench<'run> {
    options: &'run Options,
    seeded: &'run Seeded,
    runtime: tokio::runtime::Runtime,
}

/// The servers of a round: the one under test, and the one that it is compared with.
struct Servers {
    server: Server,
    other: Option<Server>,
}

impl Bench<'_> {
    fn start(&self) -> Result<Servers, Failure> {
        let Options { database_connections: connections, against, .. } = self.options;
        let server = Server::start(self.seeded, *connections)?;
        let url = self.seeded.url();
        let start_other = |binary| Server::start_from(binary, &url, "", *connections);
        let other = against.as_deref().map(start_other).transpose()?;
        Ok(Servers { server, other })
    }

    /// Random users of random organizations, on servers that have met none of them.
    fn wide(&self) -> Result<(), Failure> {
        let title = format!("{} organizations, random users", self.seeded.organizations);
        let mut report = Report::new(title, true);
        for round in 1..=self.options.rounds {
            for workload in &self.options.workloads {
                for connections in &self.options.connections {
                    let servers = self.start()?;
                    for server in [&servers.server].into_iter().chain(&servers.other) {
                        let prepared = client::prepare(server, self.seeded, *workload);
                        self.runtime.block_on(prepared)?;
                    }
                    let load = Load {
                        connections: *connections,
                        seconds: self.options.seconds,
                        wide: true,
                    };
                    self.round(round, &mut report, *workload, &load, &servers)?;
                }
            }
        }
        println!("{report}");
        Ok(())
    }

    /// Owners that the servers have met.
    fn warm(&self) -> Result<(), Failure> {
        let Self { options, seeded, runtime } = self;
        let title = format!("{} organizations, owners with sessions", seeded.organizations);
        let mut report = Report::new(title, false);
        for _ in 0..options.rounds.max(3) {
            let server = Server::start(seeded, options.database_connections)?;
            report.cold_start(server.started_in);
        }
        let servers = self.start()?;
        let Servers { server, other } = &servers;
        report.memory("idle", server.memory()?);
        for workload in &options.workloads {
            runtime.block_on(workload.check(server, seeded))?;
            if *workload != Workload::Mix {
                report.traffic(*workload, runtime.block_on(server::traffic(seeded, *workload))?);
            }
        }
        eprintln!("warming up");
        for server in [server].into_iter().chain(other) {
            runtime.block_on(client::warm_up(server, seeded))?;
        }
        for round in 1..=options.rounds {
            for workload in &options.workloads {
                for connections in &options.connections {
                    let (connections, seconds) = (*connections, options.seconds);
                    let load = Load { connections, seconds, wide: false };
                    self.round(round, &mut report, *workload, &load, &servers)?;
                }
            }
        }
        report.memory("after load", server.memory()?);
        if options.soak > 0 {
            self.soak(server, &mut report)?;
        }
        println!("{report}");
        Ok(())
    }

    /// The mix of random users of all organizations, for a long time.
    fn soak(&self, server: &Server, report: &mut Report) -> Result<(), Failure> {
        let Self { options, seeded, runtime } = self;
        let load = Load { connections: 16, seconds: options.soak.div_ceil(3), wide: true };
        let thirds = async {
            for part in ["soak, first third", "second", "last"] {
                client::run(server, seeded, Workload::Mix, &load, seeded.all()).await?;
                report.memory(part, server.memory()?);
            }
            Ok(())
        };
        let ((), processes) = runtime.block_on(Processes::during(seeded, thirds))?;
        report.processes(processes);
        Ok(())
    }

    /// Measures the floors and the servers in turn.
    fn round(
        &self,
        number: usize,
        report: &mut Report,
        workload: Workload,
        load: &Load,
        Servers { server, other }: &Servers,
    ) -> Result<(), Failure> {
        let Self { seeded, runtime, .. } = self;
        eprintln!("round {number}, {workload}, {} connections", load.connections);
        let floor = |pipelined| {
            let figures = floor::run(seeded, workload, load, pipelined)?;
            runtime.block_on(seeded.delete_created())?;
            Ok::<_, Failure>(figures)
        };
        let ask = |server: &Server| {
            let run = client::run(server, seeded, workload, load, seeded.all());
            let figures = runtime.block_on(run)?;
            runtime.block_on(seeded.delete_created())?;
            Ok::<_, Failure>(figures)
        };
        let (floor, pipelined) = (floor(false)?, floor(true)?);
        let (server, other) = (ask(server)?, other.as_ref().map(ask).transpose()?);
        let measured = Round { floor, pipelined, server, other };
        report.add(workload, load.connections, &measured);
        Ok(())
    }
}
