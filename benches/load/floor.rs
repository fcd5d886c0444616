//! The floor: pgbench sends the statements of a request over the same socket, one at a time or
//! pipelined. It enters the organization by setting the parameter that carries a session, without
//! any check: its role has that privilege, and otherwise those of the role of requests.

use std::{fs, process::Stdio, time::Duration};

use migration::{APP_SETTINGS, CARRIER_PARAMETER};
use pg::Client;

use crate::{
    Failure,
    client::Load,
    cost::Meter,
    report::Figures,
    seed::Seeded,
    workload::{MIX, Workload},
};

/// The share of transactions whose latency pgbench logs.
const SAMPLE: f64 = 0.1;

impl Workload {
    /// Returns the statements of this workload, in an organization that is entered without a check.
    fn statements(self) -> &'static str {
        match self {
            Self::Dashboard => include_str!("floor/dashboard.sql"),
            Self::Project => include_str!("floor/project.sql"),
            Self::Projects => include_str!("floor/projects.sql"),
            Self::CreateProject => include_str!("floor/create_project.sql"),
            Self::Mix => "",
        }
    }

    /// Returns the statements as a pgbench script.
    fn script(self, pipelined: bool) -> String {
        let (begin, end) =
            if pipelined { ("\\startpipeline\n", "\\endpipeline\n") } else { ("", "") };
        format!(
            "\\set n random(1, :organizations)\n\\set k random(1, {})\n\\set p random(1, 20)\n{begin}{}{end}",
            self.users(),
            self.statements()
        )
    }
}

/// Creates the role of the floor.
pub(crate) async fn create_role(seeded: &Seeded) -> Result<(), Failure> {
    let connection = Client::connect(&seeded.admin()).await?;
    connection
        .batch(&format!(
            "CREATE ROLE floor LOGIN IN ROLE tenantry_app;
             GRANT SET ON PARAMETER {CARRIER_PARAMETER} TO floor;"
        ))
        .await?;
    for (setting, value) in APP_SETTINGS {
        let value = if setting == "search_path" { value.to_owned() } else { format!("'{value}'") };
        connection.batch(&format!("ALTER ROLE floor SET {setting} TO {value}")).await?;
    }
    connection.close().await;
    Ok(())
}

/// Measures pgbench.
pub(crate) fn run(
    seeded: &Seeded,
    workload: Workload,
    load: &Load,
    pipelined: bool,
) -> Result<Figures, Failure> {
    let folder = tempfile::tempdir()?;
    let mut command = seeded.program("pgbench");
    command
        .args(["--no-vacuum", "--protocol=prepared", "--log"])
        .arg(format!("--client={}", load.connections))
        .arg(format!("--time={}", load.seconds))
        .arg(format!("--define=organizations={}", seeded.organizations))
        .arg(format!("--sampling-rate={SAMPLE}"))
        .arg("--host")
        .arg(seeded.socket())
        .args(["--username=floor", "postgres"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let parts: &[(Workload, u32)] = if workload == Workload::Mix { &MIX } else { &[(workload, 1)] };
    for (index, (part, share)) in parts.iter().enumerate() {
        let file = folder.path().join(format!("{index}.sql"));
        fs::write(&file, part.script(pipelined))?;
        command.arg(format!("--file={}@{share}", file.display()));
    }
    let meter = Meter::start(None, seeded.postgres_pid(), std::process::id())?;
    // The CPU time of pgbench is in this process's account when it has ended.
    let output = command.output()?;
    let cost = meter.stop()?;
    let text = String::from_utf8(output.stdout)?;
    let processed = text.lines().find_map(|line| {
        line.strip_prefix("number of transactions actually processed: ")?.parse::<u64>().ok()
    });
    let failed = text.contains("number of failed transactions: 0 ");
    let Some(processed) = processed.filter(|_| output.status.success() && failed) else {
        return Err(format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    };
    let mut latencies = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        let path = entry?.path();
        if path.to_string_lossy().contains("pgbench_log") {
            // The third column of a transaction is its latency in microseconds (PostgreSQL manual,
            // pgbench).
            let log = fs::read_to_string(path)?;
            latencies
                .extend(log.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok()));
        }
    }
    Ok(Figures::of(latencies, processed, Duration::from_secs(load.seconds.into()), cost))
}
