//! CPU time and memory of processes, as the kernel accounts for them (`proc(5)`).

use std::{fs, time::Duration};

use crate::Failure;

/// CPU time used during a measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) server: Duration,
    pub(crate) postgres: Duration,
    pub(crate) generator: Duration,
}

/// A running measurement.
pub(crate) struct Meter {
    server: Option<u32>,
    postgres: u32,
    generator: u32,
    started: Cost,
}

impl Meter {
    pub(crate) fn start(
        server: Option<u32>,
        postgres: u32,
        generator: u32,
    ) -> Result<Self, Failure> {
        let mut meter = Self { server, postgres, generator, started: Cost::default() };
        meter.started = meter.now()?;
        Ok(meter)
    }

    pub(crate) fn stop(self) -> Result<Cost, Failure> {
        let now = self.now()?;
        Ok(Cost {
            server: now.server.saturating_sub(self.started.server),
            postgres: now.postgres.saturating_sub(self.started.postgres),
            generator: now.generator.saturating_sub(self.started.generator),
        })
    }

    fn now(&self) -> Result<Cost, Failure> {
        Ok(Cost {
            server: self.server.map(process_time).transpose()?.unwrap_or_default(),
            postgres: family_time(self.postgres)?,
            generator: process_time(self.generator)?,
        })
    }
}

/// Returns the user and system time of a process and of its children that have ended.
pub(crate) fn process_time(pid: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(times(&stat).ok_or("unexpected format of stat")?.1)
}

/// Returns the CPU time of a process and all of its children.
fn family_time(parent: u32) -> Result<Duration, Failure> {
    let mut total = process_time(parent)?;
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        // The time of a child that has just ended is in its parent's account.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((ppid, time)) = times(&stat)
            && ppid == parent
        {
            total += time;
        }
    }
    Ok(total)
}

/// Returns the parent's id and the CPU time.
fn times(stat: &str) -> Option<(u32, Duration)> {
    // The process name stands in parentheses and may hold any character.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks =
        fields.get(11..15)?.iter().map(|text| text.parse::<u64>()).sum::<Result<u64, _>>().ok()?;
    // The kernel's unit for user space is 1/100 s on every platform that Rust runs on.
    Some((fields.get(1)?.parse().ok()?, Duration::from_millis(ticks * 10)))
}

/// Returns the resident memory of a process in MB.
pub(crate) fn memory(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("unexpected format of status")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
