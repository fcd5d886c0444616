//! `migrate` and commands need a session, which a pooler in transaction mode does not keep.

use pg::Client;

use crate::support::{
    cluster::Cluster,
    pooler::Pooler,
    process::{self, tenantry},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_transaction_mode_is_refused_before_anything_changes() {
    let cluster = Cluster::start(&[]);
    for connections in [1, 3] {
        let Some(pooler) = Pooler::start(&cluster, connections) else {
            eprintln!("SKIPPED: pgbouncer is not installed");
            return;
        };
        let url = pooler.url_of("postgres");
        for arguments in [&["migrate"][..], &["tenant", "list"], &["plan", "list"]] {
            let mut command = tenantry();
            command.args(arguments).env("MIGRATION_DATABASE_URL", &url);
            let output = process::run(&mut command);
            process::failed(&output, "is a pooler in transaction mode");
        }
        // The connections of the pooler are as they were.
        let client = Client::connect(&url.parse().unwrap()).await.unwrap();
        for _ in 0..3 {
            let role: String = client.query_one("SELECT current_user::text", &[]).await.unwrap();
            assert_eq!(role, "postgres");
        }
    }
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(cluster.value::<i64>(locks).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_session_mode_is_accepted() {
    let cluster = Cluster::start(&[]);
    let Some(pooler) = Pooler::start_in("session", &cluster, 4) else {
        eprintln!("SKIPPED: pgbouncer is not installed");
        return;
    };
    let mut command = tenantry();
    command.arg("migrate").env("MIGRATION_DATABASE_URL", pooler.url_of("postgres"));
    let output = process::run(&mut command);
    assert!(process::succeeded(&output).contains("up to date"), "{}", output.stdout);
}
