//! The server receives the signal to stop while clients are active.

use std::{
    io::Write,
    net::TcpStream,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use pg::Client;

use super::{
    load::{Load, LoadOptions, Write as Entry, WriteLog, WriteOutcome},
    verification::verify,
};
use crate::support::{HANG, cluster::Cluster, server_process::ServerProcess};

/// Locks the row that a new project of acme locks first.
const LOCK: &str = "BEGIN; SELECT FROM billing.organization_billing
    WHERE organization_id = '00000000-0000-4000-8000-00000000000a' FOR UPDATE";

/// Blocks acme's writers until the connection is dropped.
async fn block_acme(cluster: &Cluster) -> Client {
    let admin = cluster.connect_admin().await;
    admin.batch(LOCK).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'tenantry_app'";
    let started = Instant::now();
    while cluster.value::<i64>(waiting).await < 2 {
        assert!(started.elapsed() < HANG, "no session waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The writers have started by then, well before the next step.
    tokio::time::sleep(Duration::from_millis(150)).await;
    admin
}

/// Returns the writes that started well before this moment and ended after it.
fn in_flight(write_log: &WriteLog, moment: Instant) -> Vec<Entry> {
    let before = moment.checked_sub(Duration::from_millis(100)).unwrap();
    let writes = write_log.writes.lock().unwrap();
    writes
        .values()
        .filter(|write| write.started < before && write.ended > moment)
        .cloned()
        .collect()
}

/// Executed calls must equal the calls in the database. A request without a response may count or
/// not.
async fn assert_calls_returned(cluster: &Cluster, write_log: &Arc<WriteLog>) -> i64 {
    let used: i64 = cluster.value("SELECT sum(used)::bigint FROM billing.usage").await;
    let answered = i64::from(write_log.responses.load(Ordering::Relaxed));
    let without_response = i64::from(write_log.without_response.load(Ordering::Relaxed));
    assert!(
        (answered..=answered + without_response).contains(&used),
        "{used} calls were counted, {answered} answered, {without_response} not"
    );
    used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_finishes_requests_and_returns_leased_calls() {
    let cluster = Cluster::start(&[]);
    let mut server = ServerProcess::start(&cluster.url(), &[("SHUTDOWN_GRACE", "10")]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    let leased: i64 = cluster.value("SELECT sum(used)::bigint FROM billing.usage").await;
    let admin = block_acme(&cluster).await;
    let signalled_at = Instant::now();
    server.terminate();
    while TcpStream::connect(server.base.trim_start_matches("http://")).is_ok() {
        assert!(signalled_at.elapsed() < HANG, "new connections are accepted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.exit_code(), None, "the server waits for running requests");
    admin.batch("ROLLBACK").await.unwrap();
    let code = server.wait_for_exit().await;
    let took = signalled_at.elapsed().as_secs_f64();
    assert_eq!(code, 0, "{}", server.log());
    let write_log = load.stop().await;
    let started = in_flight(&write_log, signalled_at);
    let acknowledged = |write: &Entry| matches!(write.outcome, WriteOutcome::Acknowledged(_));
    assert!(started.len() >= 2 && started.iter().all(acknowledged), "{started:?}");
    let used = assert_calls_returned(&cluster, &write_log).await;
    assert!(leased >= used + 1_000, "{leased}: no lease could be returned");
    let figures = verify(&cluster, &write_log).await;
    figures.print(
        "server stopped",
        format_args!(
            "{} writes in flight were answered, {} requests were not, {used} calls counted of {leased} leased, \
             ended with 0 after {took:.2} s",
            started.len(),
            write_log.without_response.load(Ordering::Relaxed)
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_waits_no_longer_than_its_grace_period() {
    let cluster = Cluster::start(&[]);
    let mut server = ServerProcess::start(&cluster.url(), &[("SHUTDOWN_GRACE", "1")]);
    let load = Load::start(&[&server.base], LoadOptions::default());
    load.wait_until_served().await;
    let mut half = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    half.write_all(b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Le").unwrap();
    let admin = block_acme(&cluster).await;
    let signalled_at = Instant::now();
    server.terminate();
    let code = server.wait_for_exit().await;
    let took = signalled_at.elapsed().as_secs_f64();
    assert_eq!(code, 0, "{}", server.log());
    assert!((1.0..20.0).contains(&took), "{took}");
    admin.batch("ROLLBACK").await.unwrap();
    let write_log = load.stop().await;
    // PostgreSQL checks its clients and ends the sessions that they left.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tenantry_app'";
    let started = Instant::now();
    while cluster.value::<i64>(left).await > 0 {
        assert!(started.elapsed() < HANG, "its connections are still open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let figures = verify(&cluster, &write_log).await;
    assert!(
        figures.unknown() >= 2,
        "the waiting requests were answered, so the test shows nothing"
    );
    let used = assert_calls_returned(&cluster, &write_log).await;
    figures.print(
        "server stopped, a client that never finishes",
        format_args!("{used} calls counted, ended with 0 after {took:.2} s of a grace of 1 s"),
    );
}
