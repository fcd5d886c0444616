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

const ON_ITS_WAY: &str = "SELECT count(*) FROM app.placements WHERE moving_to IS NOT NULL";

/// What a database of organizations' own that has let acme go has left of it.
const LEFT: &str = "SELECT (SELECT count(*) FROM app.placements WHERE home <> 'elsewhere')
    + (SELECT count(*) FROM app.organizations) + (SELECT count(*) FROM app.projects)
    + (SELECT count(*) FROM audit.audit_logs) + (SELECT count(*) FROM app.pending_changes)";

/// Where acme moves to from the shared tables, and back from.
#[derive(Clone, Copy)]
struct Away {
    home: &'static str,
    /// The database that it is, if any.
    database: Option<&'static str>,
}

const SCHEMA: Away = Away { home: "schema", database: None };
const DATABASE: Away = Away { home: "database:eu", database: Some("eu") };

impl Away {
    /// What `DATABASES` or `MIGRATION_DATABASES` says.
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

    /// Moves it, whatever an earlier attempt left behind: it lives there, with all that belongs to
    /// it, and nowhere else.
    async fn moved(self, cluster: &Cluster, to: &str) -> Duration {
        let begun = Instant::now();
        succeeds(self.moving(cluster, to)).await;
        let took = begun.elapsed();
        assert_eq!(cluster.value::<String>(HOME).await, to);
        succeeds(self.command(cluster, &["tenant", "verify", "acme"])).await;
        if let Some(name) = self.database.filter(|_| to == "shared") {
            assert_eq!(cluster.value_in::<i64>(name, LEFT).await, 0);
        }
        took
    }
}

async fn succeeds(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || process::run(&mut command)).await.unwrap();
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
}

async fn moves(scenario: &str, away: Away, least: u32, until: Until) {
    let mut cluster = Cluster::start(&[]);
    if let Some(name) = away.database {
        cluster.dedicate(name).await;
    }
    let databases = away.databases(&cluster, "tenantry_app");
    let settings = [("DATABASES", databases.as_str())];
    let servers = [(); 2].map(|()| Served::start(&cluster.url(), &settings));
    let load = Load::start(&[&servers[0].base, &servers[1].base], Pace::default());
    load.flows().await;
    let whole = away.moved(&cluster, away.home).await;
    let (mut kills, mut midst, mut home) = (0, 0, away.home);
    while kills < least || !until.is_over() {
        let to = if home == "shared" { away.home } else { "shared" };
        let mut mover = away.moving(&cluster, to).spawn().unwrap();
        tokio::time::sleep(whole.mul_f64(fastrand::f64())).await;
        cluster.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.resume();
        load.recovers_from(Instant::now(), RECOVERY).await;
        // It has noticed, or had come to its end before.
        tokio::task::spawn_blocking(move || mover.wait().unwrap()).await.unwrap();
        let left: String = cluster.value(HOME).await;
        assert!(left == home || left == to, "{left}");
        midst += cluster.value::<i64>(ON_ITS_WAY).await;
        // Goes on, or is called off.
        home = if kills % 2 == 0 { to } else { home };
        away.moved(&cluster, home).await;
        kills += 1;
    }
    if home != "shared" {
        away.moved(&cluster, "shared").await;
    }
    let book = load.stop().await;
    let figures = verify(&cluster, &book).await;
    assert!(figures.refused() > 0, "nobody has noticed: the test shows nothing");
    figures.print(
        scenario,
        format_args!("{kills} kills, {midst} of them in the midst, a move takes {whole:?}"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_killed_during_a_move_loses_no_acknowledged_write() {
    moves("PostgreSQL killed during a move", SCHEMA, 2, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn a_postgresql_that_is_killed_during_moves_again_and_again_loses_no_acknowledged_write() {
    moves("PostgreSQL killed during moves, long", SCHEMA, 10, Until::long()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_killed_during_a_move_to_a_database_loses_no_acknowledged_write() {
    // Out and back, going on and called off.
    let scenario = "PostgreSQL killed during a move to a database";
    moves(scenario, DATABASE, 4, Until::once()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as FAULT_SECONDS says"]
async fn a_postgresql_that_is_killed_during_moves_to_databases_again_and_again_loses_none() {
    let scenario = "PostgreSQL killed during moves to a database, long";
    moves(scenario, DATABASE, 10, Until::long()).await;
}
