//! PostgreSQL is killed while an organization moves from one place to the other and back.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Until,
    load::{Load, Pace},
    verdict::verify,
};
use crate::support::{cluster::Cluster, process, served::Served};

/// How long until everybody is served again.
const RECOVERY: Duration = Duration::from_secs(15);

const HOME: &str = "SELECT coalesce((SELECT p.home FROM app.placements p JOIN app.organizations o ON o.id = p.organization_id
    WHERE o.slug = 'acme'), 'shared')";

fn moving(cluster: &Cluster, to: &str) -> Command {
    let mut command = process::tenantry();
    command
        .args(["tenant", "move", "acme", "--to", to, "--drop-source"])
        .env("MIGRATION_DATABASE_URL", cluster.url().replace("tenantry_app", "postgres"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Moves it, whatever an earlier attempt left behind.
async fn moved(cluster: &Cluster, to: &'static str) -> Duration {
    let mut command = moving(cluster, to);
    command.stderr(Stdio::piped());
    let begun = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cluster.value::<String>(HOME).await, to);
    begun.elapsed()
}

async fn moves(scenario: &str, least: u32, until: Until) {
    let mut cluster = Cluster::start(&[]);
    let servers = [Served::start(&cluster.url(), &[]), Served::start(&cluster.url(), &[])];
    let load = Load::start(&[&servers[0].base, &servers[1].base], Pace::default());
    load.flows().await;
    let whole = moved(&cluster, "schema").await;
    let (mut kills, mut home) = (0, "schema");
    while kills < least || !until.is_over() {
        let to = if home == "schema" { "shared" } else { "schema" };
        let mut mover = moving(&cluster, to).spawn().unwrap();
        tokio::time::sleep(whole.mul_f64(fastrand::f64())).await;
        cluster.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.resume();
        load.recovers_from(Instant::now(), RECOVERY).await;
        // It has noticed, or had come to its end before.
        tokio::task::spawn_blocking(move || mover.wait().unwrap()).await.unwrap();
        let left: String = cluster.value(HOME).await;
        assert!(left == home || left == to, "{left}");
        // Goes on, or is called off.
        home = if kills % 2 == 0 { to } else { home };
        moved(&cluster, home).await;
        kills += 1;
    }
    if home == "schema" {
        moved(&cluster, "shared").await;
    }
    let book = load.stop().await;
    let figures = verify(&cluster, &book).await;
    assert!(figures.refused() > 0, "nobody has noticed: the test shows nothing");
    figures.print(scenario, format_args!("{kills} kills, a move takes {whole:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_killed_during_a_move_loses_no_acknowledged_write() {
    moves("PostgreSQL killed during a move", 2, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn a_postgresql_that_is_killed_during_moves_again_and_again_loses_no_acknowledged_write() {
    moves("PostgreSQL killed during moves, long", 10, Until::long()).await;
}
