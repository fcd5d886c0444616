//! The server is told to stop while clients are at it.

use std::{
    io::Write,
    net::TcpStream,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use sqlx::{Executor, PgConnection};

use super::{
    load::{Book, Fate, Load, Pace, Write as Entry},
    verdict::verify,
};
use crate::support::{HANG, cluster::Cluster, served::Served};

/// What projects of acme need first.
const LOCK: &str = "BEGIN; SELECT FROM billing.organization_billing
    WHERE organization_id = '00000000-0000-4000-8000-00000000000a' FOR UPDATE";

/// Acme's writers wait for somebody else's transaction until that ends.
async fn acme_is_held_up(cluster: &Cluster) -> PgConnection {
    let mut admin = cluster.connect_admin().await;
    admin.execute(LOCK).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'tenantry_app'";
    let begun = Instant::now();
    while cluster.value::<i64>(waiting).await < 2 {
        assert!(begun.elapsed() < Duration::from_secs(8), "nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // So that they have begun well before whatever comes next.
    tokio::time::sleep(Duration::from_millis(150)).await;
    admin
}

/// What was on its way at that moment: begun well before, and ended after.
fn in_flight(book: &Book, moment: Instant) -> Vec<Entry> {
    let before = moment.checked_sub(Duration::from_millis(100)).unwrap();
    let writes = book.writes.lock().unwrap();
    writes.values().filter(|write| write.begun < before && write.ended > moment).cloned().collect()
}

/// Calls are what was executed; whether a request that was not answered was, nobody knows.
async fn assert_calls_given_back(cluster: &Cluster, book: &Arc<Book>) -> i64 {
    let used: i64 = cluster.value("SELECT sum(used)::bigint FROM billing.usage").await;
    let answered = i64::from(book.answers.load(Ordering::Relaxed));
    let silences = i64::from(book.silences.load(Ordering::Relaxed));
    assert!(
        (answered..=answered + silences).contains(&used),
        "{used} calls were counted, {answered} answered, {silences} not"
    );
    used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answers_what_was_begun_and_gives_back_its_calls() {
    let cluster = Cluster::start(&[]);
    let mut server = Served::start(&cluster.url(), &[("SHUTDOWN_GRACE", "10")]);
    let load = Load::start(&[&server.base], Pace::default());
    load.flows().await;
    let leased: i64 = cluster.value("SELECT sum(used)::bigint FROM billing.usage").await;
    let mut admin = acme_is_held_up(&cluster).await;
    let told = Instant::now();
    server.terminate();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.exit_code(), None, "it waits for what was begun");
    let refused = TcpStream::connect(server.base.trim_start_matches("http://"));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    admin.execute("ROLLBACK").await.unwrap();
    let code = server.ended(Duration::from_secs(20)).await;
    let took = told.elapsed().as_secs_f64();
    assert_eq!(code, 0, "{}", server.told());
    let book = load.stop().await;
    let begun = in_flight(&book, told);
    let acknowledged = |write: &Entry| matches!(write.fate, Fate::Acknowledged(_));
    assert!(begun.len() >= 2 && begun.iter().all(acknowledged), "{begun:?}");
    let used = assert_calls_given_back(&cluster, &book).await;
    assert!(leased >= used + 1_000, "{leased}: nothing was to be given back");
    let figures = verify(&cluster, &book).await;
    figures.print(
        "server stopped",
        format_args!(
            "{} writes in flight were answered, {} requests were not, {used} calls counted of {leased} leased, \
             ended with 0 after {took:.2} s",
            begun.len(),
            book.silences.load(Ordering::Relaxed)
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_waits_for_nobody_beyond_its_grace() {
    let cluster = Cluster::start(&[]);
    let mut server = Served::start(&cluster.url(), &[("SHUTDOWN_GRACE", "1")]);
    let load = Load::start(&[&server.base], Pace::default());
    load.flows().await;
    let mut half = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    half.write_all(b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Le").unwrap();
    let mut admin = acme_is_held_up(&cluster).await;
    let told = Instant::now();
    server.terminate();
    let code = server.ended(Duration::from_secs(20)).await;
    let took = told.elapsed().as_secs_f64();
    assert_eq!(code, 0, "{}", server.told());
    assert!((1.0..20.0).contains(&took), "{took}");
    admin.execute("ROLLBACK").await.unwrap();
    let book = load.stop().await;
    // PostgreSQL looks after its clients, and ends what they left.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tenantry_app'";
    let begun = Instant::now();
    while cluster.value::<i64>(left).await > 0 {
        assert!(begun.elapsed() < HANG, "its connections are still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let figures = verify(&cluster, &book).await;
    assert!(figures.unknown() >= 2, "whoever waited was answered: the test shows nothing");
    let used = assert_calls_given_back(&cluster, &book).await;
    figures.print(
        "server stopped, a client that never finishes",
        format_args!("{used} calls counted, ended with 0 after {took:.2} s of a grace of 1 s"),
    );
}
