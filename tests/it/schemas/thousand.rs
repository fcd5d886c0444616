//! Durations with many schemas. The test is ignored, because it takes minutes: `cargo test
//! --release --test it -- --ignored --nocapture schemas::thousand`

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use migration::{Passwords, Run, STEPS, migrate_with};
use tenantry::tenancy::{DatabaseOptions, Databases, Extent};

use super::{LATER, create_schemas, migrate_to_later, of_step, organization, to_later};
use crate::{
    command_line::free_port,
    support::{database::Database, process::tenantry},
};

#[expect(clippy::cast_precision_loss, reason = "a thousand")]
fn each(took: Duration, count: u128) -> String {
    format!(
        "{:.0} ms, {:.2} ms each",
        took.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e3 / count as f64
    )
}

async fn self_check(database: &Database) -> Duration {
    let options = DatabaseOptions {
        system: None,
        listen: None,
        replica: None,
        dedicated: Vec::new(),
        connect: database.app(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(5),
        statement_cache: 100,
    };
    let placement = Databases::shared(&options).unwrap();
    let start = Instant::now();
    assert_eq!(placement.self_check(Extent::Quick).await.unwrap(), []);
    start.elapsed()
}

/// Returns the time from the start of the process until it responds.
async fn start_server(database: &Database) -> Duration {
    let (url, address) = (database.url("tenantry_app"), format!("127.0.0.1:{}", free_port()));
    let started = move || {
        let start = Instant::now();
        let mut server = tenantry()
            .arg("serve")
            .env("DATABASE_URL", url)
            .env("JWT_SECRET", "0".repeat(32))
            .env("SECRET_KEY", "0".repeat(32))
            .env("LISTEN_ADDR", &address)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(&address).is_err() {
            assert!(start.elapsed() < Duration::from_mins(1));
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = start.elapsed();
        server.kill().unwrap();
        server.wait().unwrap();
        took
    };
    tokio::task::spawn_blocking(started).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_thousand_schemas_migrate_and_serve() {
    for count in [0, 10, 100, 1000_u128] {
        let database = of_step(STEPS.len()).await;
        let start = Instant::now();
        create_schemas(&database, (1..=count).map(organization)).await;
        println!("{count} schemas: made in {}", each(start.elapsed(), count.max(1)));

        let start = Instant::now();
        let run = Run { progress: |line| println!("  {line}"), ..to_later() };
        let report = migrate_with(database.admin(), Passwords::default(), &run).await.unwrap();
        assert_eq!((report.schemas.migrated as u128, report.schemas.failed), (count, vec![]));
        println!("  migrated in {}", each(start.elapsed(), count.max(1)));
        let start = Instant::now();
        migrate_to_later(&database).await;
        println!("  nothing to migrate: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);

        // The server of this version knows no later step.
        let later = "DELETE FROM migration.seaql_migrations WHERE version =";
        database.execute(&format!("{later} '{}'", LATER.name)).await;
        self_check(&database).await;
        println!("  self-check {:.0} ms", self_check(&database).await.as_secs_f64() * 1e3);
        println!("  server started in {:.0} ms", start_server(&database).await.as_secs_f64() * 1e3);
    }
}
