//! PostgreSQL is killed while an organization moves to another placement and back.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Until,
    load::{Load, LoadOptions},
    verification::verify,
};
use crate::support::{cluster::Cluster, process, server_process::ServerProcess};

const PLACEMENT: &str = "SELECT coalesce((SELECT p.placement FROM app.placements p JOIN app.organizations o ON o.id = p.organization_id
    WHERE o.slug = 'acme'), 'shared')";

const IN_TRANSIT: &str = "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL";

/// What a dedicated database still has of acme after its release.
const LEFT_BEHIND: &str = "SELECT (SELECT count(*) FROM app.placements WHERE placement <> 'remote')
    + (SELECT count(*) FROM app.organizations) + (SELECT count(*) FROM app.projects)
    + (SELECT count(*) FROM audit.audit_logs) + (SELECT count(*) FROM app.pending_changes)";

/// The placement that acme moves to from the shared tables, and back from.
#[derive(Clone, Copy)]
struct Destination {
    placement: &'static str,
    /// The name of the dedicated database, if it is one.
    database: Option<&'static str>,
}

const SCHEMA: Destination = Destination { placement: "schema", database: None };
const DATABASE: Destination = Destination { placement: "database:eu", database: Some("eu") };

impl Destination {
    /// The value of `DATABASES` or `MIGRATION_DATABASES`.
    fn databases(self, cluster: &Cluster, role: &str) -> String {
        self.database
            .map_or_else(String::new, |name| format!("{name}={}", cluster.url_of(name, role)))
    }

    fn command(self, cluster: &Cluster, arguments: &[&str]) -> Command {
        let mut command = process::tenantry();
        command
            .args(arguments)
            .env("MIGRATION_DATABASE_URL", cluster.url_of("app", "postgres"))
            .env("MIGRATION_DATABASES", self.databases(cluster, "postgres"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn moving(self, cluster: &Cluster, to: &str) -> Command {
        self.command(cluster, &["tenant", "move", "acme", "--to", to, "--drop-source"])
    }

    /// Moves acme, regardless of what an earlier attempt left behind. Asserts that acme then has
    /// exactly one placement with all its rows.
    async fn assert_moves(self, cluster: &Cluster, to: &str) -> Duration {
        let started = Instant::now();
        run_successfully(self.moving(cluster, to)).await;
        let took = started.elapsed();
        assert_eq!(cluster.value::<String>(PLACEMENT).await, to);
        run_successfully(self.command(cluster, &["tenant", "verify", "acme"])).await;
        if let Some(name) = self.database.filter(|_| to == "shared") {
            assert_eq!(cluster.value_in::<i64>(name, LEFT_BEHIND).await, 0);
        }
        took
    }
}

async fn run_successfully(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || process::run(&mut command)).await.unwrap();
    process::succeeded(&output);
}

async fn kill_during_moves(scenario: &str, destination: Destination, least: u32, until: Until) {
    let mut cluster = Cluster::start(&[]);
    if let Some(name) = destination.database {
        cluster.dedicate(name).await;
    }
    let databases = destination.databases(&cluster, "tenantry_app");
    let settings = [("DATABASES", databases.as_str())];
    let servers = [(); 2].map(|()| ServerProcess::start(&cluster.url(), &settings));
    let load = Load::start(&[&servers[0].base, &servers[1].base], LoadOptions::default());
    load.wait_until_served().await;
    let complete = destination.assert_moves(&cluster, destination.placement).await;
    let (mut kills, mut in_progress, mut placement) = (0, 0, destination.placement);
    while kills < least || !until.has_ended() {
        let to = if placement == "shared" { destination.placement } else { "shared" };
        let mut mover = destination.moving(&cluster, to).spawn().unwrap();
        tokio::time::sleep(complete.mul_f64(fastrand::f64())).await;
        cluster.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.resume();
        load.recovers_from(Instant::now()).await;
        // The process has noticed the failure, or had ended before.
        tokio::task::spawn_blocking(move || mover.wait().unwrap()).await.unwrap();
        let left: String = cluster.value(PLACEMENT).await;
        assert!(left == placement || left == to, "{left}");
        in_progress += cluster.value::<i64>(IN_TRANSIT).await;
        // The next move continues this one or cancels it.
        placement = if kills % 2 == 0 { to } else { placement };
        destination.assert_moves(&cluster, placement).await;
        kills += 1;
    }
    if placement != "shared" {
        destination.assert_moves(&cluster, "shared").await;
    }
    let write_log = load.stop().await;
    let figures = verify(&cluster, &write_log).await;
    assert!(figures.refused() > 0, "no client noticed, so the test shows nothing");
    figures.print(
        scenario,
        format_args!(
            "{kills} kills, {in_progress} of them in the midst, a move takes {complete:?}"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_postgresql_during_a_move_loses_no_acknowledged_write() {
    kill_during_moves("PostgreSQL killed during a move", SCHEMA, 2, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn killing_postgresql_during_many_moves_loses_no_acknowledged_write() {
    kill_during_moves("PostgreSQL killed during moves, long", SCHEMA, 10, Until::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_postgresql_during_a_move_to_a_database_loses_no_acknowledged_write() {
    // There and back, continued and cancelled.
    let scenario = "PostgreSQL killed during a move to a database";
    kill_during_moves(scenario, DATABASE, 4, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn killing_postgresql_during_many_moves_to_a_database_loses_no_acknowledged_write() {
    let scenario = "PostgreSQL killed during moves to a database, long";
    kill_during_moves(scenario, DATABASE, 10, Until::long()).await;
}
