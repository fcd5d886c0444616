//! The results: medians with their ranges, and ratios of measurements from the same round.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{background::Processes, cost::Cost, relay::Traffic, workload::Workload};

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU time for each request in microseconds.
    pub(crate) server: f64,
    pub(crate) postgres: f64,
    pub(crate) generator: f64,
    /// Callers and organizations for each request: shares of first requests on a new server.
    pub(crate) callers: f64,
    pub(crate) organizations: f64,
}

impl Figures {
    /// Computes the figures from latencies in microseconds. `latencies` may be a sample: `requests`
    /// is the true count.
    pub(crate) fn of(mut latencies: Vec<u32>, requests: u64, took: Duration, cost: Cost) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies
                .get(index.min(latencies.len().saturating_sub(1)))
                .copied()
                .map_or(f64::NAN, f64::from)
                / 1e3
        };
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests as f64;
        Self {
            per_second: requests as f64 / took.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            server: each(cost.server),
            postgres: each(cost.postgres),
            generator: each(cost.generator),
            callers: f64::NAN,
            organizations: f64::NAN,
        }
    }
}

/// A server and its floors, measured in turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) floor: Figures,
    pub(crate) pipelined: Figures,
    pub(crate) server: Figures,
    /// The other server, if one is compared.
    pub(crate) other: Option<Figures>,
}

/// All measurements on one database.
pub(crate) struct Report {
    title: String,
    /// Whether the servers have met no caller before.
    is_wide: bool,
    rounds: BTreeMap<(Workload, usize), Vec<Round>>,
    traffic_rows: Vec<(Workload, Traffic)>,
    cold_starts: Vec<f64>,
    memory: Vec<(&'static str, f64)>,
    processes: Processes,
}

impl Report {
    pub(crate) fn new(title: String, is_wide: bool) -> Self {
        Self {
            title,
            is_wide,
            rounds: BTreeMap::new(),
            traffic_rows: Vec::new(),
            cold_starts: Vec::new(),
            memory: Vec::new(),
            processes: Processes::default(),
        }
    }

    pub(crate) fn add(&mut self, workload: Workload, connections: usize, round: &Round) {
        self.rounds.entry((workload, connections)).or_default().push(*round);
    }

    pub(crate) fn traffic(&mut self, workload: Workload, traffic: Traffic) {
        self.traffic_rows.push((workload, traffic));
    }

    pub(crate) fn cold_start(&mut self, took: Duration) {
        self.cold_starts.push(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn processes(&mut self, processes: Processes) {
        self.processes = processes;
    }

    pub(crate) fn memory(&mut self, when: &'static str, megabytes: f64) {
        self.memory.push((when, megabytes));
    }
}

/// The median and the range of a list of values.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    Spread { median: f64::midpoint(at(last / 2), at(values.len() / 2)), min: at(0), max: at(last) }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "## {}\n", self.title)?;
        writeln!(
            out,
            "| workload, connections | requests/s (range) | floor | pipelined floor | of the floor (range) | of the pipelined |"
        )?;
        writeln!(out, "| --- | --- | --- | --- | --- | --- |")?;
        for ((workload, connections), rounds) in &self.rounds {
            let of = |figure: fn(&Round) -> f64| spread(rounds.iter().map(figure));
            let server = of(|round| round.server.per_second);
            let ratio = of(|round| round.server.per_second / round.floor.per_second);
            let pipelined = of(|round| round.server.per_second / round.pipelined.per_second);
            writeln!(
                out,
                "| {workload}, {connections} | {:.0} ({:.0}–{:.0}) | {:.0} | {:.0} | {:.2} ({:.2}–{:.2}) | {:.2} |",
                server.median,
                server.min,
                server.max,
                of(|round| round.floor.per_second).median,
                of(|round| round.pipelined.per_second).median,
                ratio.median,
                ratio.min,
                ratio.max,
                pipelined.median,
            )?;
        }
        writeln!(
            out,
            "\n| workload, connections | p50, p99 ms | floor's p50, p99 ms | p99/p50 over the floor's | CPU µs: server, PostgreSQL, generator | floor's CPU µs: PostgreSQL, pgbench |"
        )?;
        writeln!(out, "| --- | --- | --- | --- | --- | --- |")?;
        for ((workload, connections), rounds) in &self.rounds {
            let of = |figure: fn(&Round) -> f64| spread(rounds.iter().map(figure)).median;
            let tails = |figures: &Figures| figures.p99 / figures.p50;
            let over =
                spread(rounds.iter().map(|round| tails(&round.server) / tails(&round.floor)));
            writeln!(
                out,
                "| {workload}, {connections} | {:.2}, {:.2} | {:.2}, {:.2} | {:.2} | {:.0}, {:.0}, {:.0} | {:.0}, {:.0} |",
                of(|round| round.server.p50),
                of(|round| round.server.p99),
                of(|round| round.floor.p50),
                of(|round| round.floor.p99),
                over.median,
                of(|round| round.server.server),
                of(|round| round.server.postgres),
                of(|round| round.server.generator),
                of(|round| round.floor.postgres),
                of(|round| round.floor.generator),
            )?;
        }
        self.fmt_comparison(out)?;
        if self.is_wide {
            return self.fmt_first(out);
        }
        writeln!(
            out,
            "\n| workload | SQL statements | waits for PostgreSQL |\n| --- | --- | --- |"
        )?;
        for (workload, Traffic { statements, waits }) in &self.traffic_rows {
            writeln!(out, "| {workload} | {statements} | {waits} |")?;
        }
        let start = spread(self.cold_starts.iter().copied());
        writeln!(out, "\nCold start: {:.0} ms ({:.0}–{:.0})", start.median, start.min, start.max)?;
        for (when, megabytes) in &self.memory {
            writeln!(out, "Memory {when}: {megabytes:.0} MB")?;
        }
        for (name, percent) in self.processes.shares() {
            writeln!(out, "PostgreSQL's CPU time in the soak, {name}: {percent:.1} %")?;
        }
        Ok(())
    }
}

impl Report {
    fn fmt_first(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\n| workload, connections | a caller's first request | an organization's first request |\n| --- | --- | --- |"
        )?;
        for ((workload, connections), rounds) in &self.rounds {
            let percent = |share: fn(&Figures) -> f64| {
                spread(rounds.iter().map(|round| 100.0 * share(&round.server))).median
            };
            writeln!(
                out,
                "| {workload}, {connections} | {:.0} % | {:.0} % |",
                percent(|figures| figures.callers),
                percent(|figures| figures.organizations),
            )?;
        }
        Ok(())
    }

    fn fmt_comparison(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_alone = |round: &Round| round.other.is_none();
        if self.rounds.values().flatten().all(is_alone) {
            return Ok(());
        }
        writeln!(
            out,
            "\n| workload, connections | times the other's requests/s (range) | the other's requests/s | CPU µs: server, PostgreSQL |\n| --- | --- | --- | --- |"
        )?;
        for ((workload, connections), rounds) in &self.rounds {
            let both = || rounds.iter().filter_map(|round| Some((round.server, round.other?)));
            let of =
                |figure: fn(Figures) -> f64| spread(both().map(|(_, other)| figure(other))).median;
            let times = spread(both().map(|(one, other)| one.per_second / other.per_second));
            writeln!(
                out,
                "| {workload}, {connections} | {:.2} ({:.2}–{:.2}) | {:.0} | {:.0}, {:.0} |",
                times.median,
                times.min,
                times.max,
                of(|other| other.per_second),
                of(|other| other.server),
                of(|other| other.postgres),
            )?;
        }
        Ok(())
    }
}
