//! Compares placements with the same requests on one server: organizations in the shared tables,
//! one in a dedicated schema, one in a dedicated database, and many in dedicated schemas.

use std::{
    ops::RangeInclusive,
    process::{Command, Stdio},
    time::Instant,
};

use pg::Client;

use crate::{
    Failure, Options,
    client::{self, Load},
    dedicated_schema::move_to_schema,
    report::Figures,
    seed::Seeded,
    server::Server,
};

pub(crate) fn run(seeded: &Seeded, options: &Options, schemas: u32) -> Result<(), Failure> {
    if schemas == 0 || schemas + 2 >= seeded.organizations {
        return Err("--schemas must be at least three less than the number of organizations".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    runtime.block_on(move_out(seeded, schemas))?;
    let each = started.elapsed() / schemas;
    println!("{schemas} schemas made and filled, {:.1} ms each", each.as_secs_f64() * 1_000.0);
    let (one, moved) = (schemas + 1, schemas + 2);
    let started = Instant::now();
    move_to_database(seeded, moved)?;
    println!("a database created and filled in {} ms", started.elapsed().as_millis());
    let there = format!("{NAME}={}", seeded.url_of("tenantry_app", NAME));
    let server = Server::start_at(&seeded.url(), &there, options.database_connections)?;
    println!("started in {} ms", server.started_in.as_millis());
    runtime.block_on(client::warm_up(&server, seeded))?;
    let groups: [(String, RangeInclusive<u32>); 5] = [
        ("shared tables".to_owned(), moved + 1..=seeded.organizations),
        ("one of the shared tables'".to_owned(), one..=one),
        ("a schema".to_owned(), 1..=1),
        ("a database".to_owned(), moved..=moved),
        (format!("{schemas} schemas"), 1..=schemas),
    ];
    println!(
        "workload, connections, where: requests/s, p50 and p99 in ms, CPU µs of server and PostgreSQL"
    );
    for round in 1..=options.rounds {
        for workload in &options.workloads {
            for connections in &options.connections {
                for (name, among) in &groups {
                    let load =
                        Load { connections: *connections, seconds: options.seconds, wide: false };
                    let run = client::run(&server, seeded, *workload, &load, among.clone());
                    let Figures { per_second, p50, p99, server: own, postgres, .. } =
                        runtime.block_on(run)?;
                    runtime.block_on(seeded.delete_created())?;
                    let there = seeded.admin().with("dbname", NAME);
                    runtime.block_on(seeded.delete_created_in(&there))?;
                    println!(
                        "round {round}: {workload}, {connections}, {name}: {per_second:.0}, {p50:.2}, {p99:.2}, {own:.0}, {postgres:.0}"
                    );
                }
            }
        }
    }
    println!("memory after load: {:.0} MB", server.memory()?);
    Ok(())
}

/// The dedicated database of one organization.
const NAME: &str = "bench";

/// Runs `tenantry tenant move`, as operators do.
fn move_to_database(seeded: &Seeded, organization: u32) -> Result<(), Failure> {
    let admin = |database| seeded.url_of("postgres", database);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
        command
            .args(arguments)
            .env_clear()
            .env("MIGRATION_DATABASE_URL", admin("postgres"))
            .env("MIGRATION_DATABASES", format!("{NAME}={}", admin(NAME)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match command.status()? {
            status if status.success() => Ok(()),
            status => Err(Failure::from(format!("{arguments:?}: {status}"))),
        }
    };
    let create = ["-h", &seeded.socket().display().to_string(), "-U", "postgres", NAME];
    if !seeded.program("createdb").args(create).status()?.success() {
        return Err("the database could not be created".into());
    }
    run(&["migrate"])?;
    let slug = format!("org-{organization}");
    run(&["tenant", "move", &slug, "--to", &format!("database:{NAME}"), "--drop-source"])
}

async fn move_out(seeded: &Seeded, schemas: u32) -> Result<(), Failure> {
    let connection = Client::connect(&seeded.admin()).await?;
    for n in 1..=schemas {
        let id = connection
            .query_one(
                "SELECT id FROM app.organizations WHERE slug = 'org-' || $1",
                &[&i64::from(n)],
            )
            .await?;
        move_to_schema(&connection, id).await?;
    }
    connection.batch("VACUUM ANALYZE").await?;
    connection.close().await;
    Ok(())
}
