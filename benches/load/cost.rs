//! What it took of the processor and of memory, as the kernel accounts for it (`proc(5)`).

use std::{fs, time::Duration};

use crate::Failure;

/// Time of processors during a measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) server: Duration,
    pub(crate) postgres: Duration,
    pub(crate) generator: Duration,
}

/// A measurement that was begun.
pub(crate) struct Meter {
    server: Option<u32>,
    postgres: u32,
    generator: u32,
    begun: Cost,
}

impl Meter {
    pub(crate) fn start(
        server: Option<u32>,
        postgres: u32,
        generator: u32,
    ) -> Result<Self, Failure> {
        let mut meter = Self { server, postgres, generator, begun: Cost::default() };
        meter.begun = meter.now()?;
        Ok(meter)
    }

    pub(crate) fn stop(self) -> Result<Cost, Failure> {
        let now = self.now()?;
        Ok(Cost {
            server: now.server.saturating_sub(self.begun.server),
            postgres: now.postgres.saturating_sub(self.begun.postgres),
            generator: now.generator.saturating_sub(self.begun.generator),
        })
    }

    fn now(&self) -> Result<Cost, Failure> {
        Ok(Cost {
            server: self.server.map(of_process).transpose()?.unwrap_or_default(),
            postgres: of_family(self.postgres)?,
            generator: of_process(self.generator)?,
        })
    }
}

/// User and system time of a process, and of its children that have ended.
fn of_process(pid: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(times(&stat).ok_or("an odd stat")?.1)
}

/// Of a process and all of its children.
fn of_family(parent: u32) -> Result<Duration, Failure> {
    let mut total = of_process(parent)?;
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        // Somebody who has just ended is in its parent's account.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((ppid, time)) = times(&stat)
            && ppid == parent
        {
            total += time;
        }
    }
    Ok(total)
}

/// The parent, and the time used.
fn times(stat: &str) -> Option<(u32, Duration)> {
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks =
        fields.get(11..15)?.iter().map(|text| text.parse::<u64>()).sum::<Result<u64, _>>().ok()?;
    // The kernel's unit for user space is 1/100 s on every platform that Rust runs on.
    Some((fields.get(1)?.parse().ok()?, Duration::from_millis(ticks * 10)))
}

/// The resident memory of a process, in MB.
pub(crate) fn memory(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("an odd status")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
