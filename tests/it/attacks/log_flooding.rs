//! Requests that make the server write more log text than they contain.

use std::time::{Duration, Instant};

use crate::support::{Client, HANG, app, cluster::Cluster, server_process::ServerProcess};

/// The statements that have waited for longer than a slow one takes.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND usename = 'tenantry_app'
        AND query_start < clock_timestamp() - interval '1.5 seconds'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_statements_of_a_request_are_logged_as_one_line_with_their_count() {
    let cluster = Cluster::start(&[]);
    let server = ServerProcess::start(&cluster.url(), &[("LOG_FORMAT", "text"), ("NO_COLOR", "1")]);
    let url = format!("{}/org/acme/graphql", server.base);
    let client = Client::new(url, Some(app::token("acme-owner")));
    let pages = (0..20)
        .map(|n| format!("a{n}: projects(first: 1) {{ nodes {{ id }} }} "))
        .collect::<Vec<_>>()
        .concat();
    let query = format!("{{ organization {{ {pages} }} }}");
    client.data(&query).await;
    let admin = cluster.connect_admin().await;
    admin.batch("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let asking = tokio::spawn(async move { client.data(&query).await });
    let started = Instant::now();
    while cluster.value::<i64>(WAITING).await == 0 {
        assert!(started.elapsed() < HANG, "no statement waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // All statements wait behind the first one and have become slow with it.
    admin.batch("COMMIT").await.unwrap();
    asking.await.unwrap();
    let started = Instant::now();
    let slow = loop {
        let log = server.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("slow statement")).collect();
        // The line is written when the transaction ends, possibly after the response.
        if let [line, rest @ ..] = lines.as_slice() {
            assert!(rest.is_empty(), "{log}");
            break (*line).to_owned();
        }
        assert!(started.elapsed() < HANG, "nothing is logged: {log}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(slow.contains("count=20"), "{slow}");
}
