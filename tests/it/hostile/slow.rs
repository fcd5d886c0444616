//! Clients that take their time, or take places: each is cut when its time is up, and the others do
//! not notice.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    address,
    wire::{post, statuses, told},
};
use crate::support::{App, AppSettings, app};

const HEADERS: Duration = Duration::from_millis(600);
const IDLE: Duration = Duration::from_millis(1_500);

/// How much later than its time a connection may be cut on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

/// The server may see a connection a little before its client does.
const EARLY: Duration = Duration::from_millis(100);

async fn impatient(connections: usize) -> App {
    let mut settings = AppSettings::default();
    settings.client_limits.connections = connections;
    settings.client_limits.header_timeout = HEADERS;
    settings.client_limits.idle_timeout = IDLE;
    App::with(settings).await
}

/// Sends a byte of the text every so often, and tells when the connection was cut.
async fn drip(app: &App, text: &str, pause: Duration) -> Duration {
    let socket = TcpStream::connect(address(app)).await.unwrap();
    let begun = Instant::now();
    let (mut reading, mut writing) = socket.into_split();
    let text = text.as_bytes().to_vec();
    let sending = tokio::spawn(async move {
        for byte in text {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(pause).await;
        }
        std::future::pending::<()>().await;
    });
    let mut all = Vec::new();
    // A reset is an end as well.
    let _ =
        timeout(Duration::from_secs(30), reading.read_to_end(&mut all)).await.expect("never cut");
    sending.abort();
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_finishes_its_first_request_is_cut() {
    let app = impatient(100).await;
    let endless = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}", "X: y\r\n".repeat(500));
    let pause = Duration::from_millis(50);
    for text in [
        "",
        "\r\n\r\n\r\n\r\n",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        endless.as_str(),
    ] {
        let took = drip(&app, text, pause).await;
        assert!(
            (HEADERS..HEADERS + SLACK).contains(&(took + EARLY)),
            "{:?} was cut after {took:?}",
            &text[..text.len().min(20)]
        );
    }
    app.person("acme-owner").data("{ viewer { id } }").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_nothing_more_is_cut() {
    let app = impatient(100).await;
    let mut socket = TcpStream::connect(address(&app)).await.unwrap();
    for _ in 0..2 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut part = [0; 1_024];
        assert!(socket.read(&mut part).await.unwrap() > 0);
        sleep(HEADERS).await;
    }
    let begun = Instant::now();
    assert_eq!(told(&mut socket, IDLE + SLACK).await.as_deref(), Some(""));
    assert!(begun.elapsed() + HEADERS + Duration::from_millis(100) > IDLE, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_its_time() {
    let app = impatient(100).await;
    let mut socket = TcpStream::connect(address(&app)).await.unwrap();
    let headers = post("Content-Type: application/json\r\nContent-Length: 100000\r\n", "{");
    socket.write_all(headers.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let (mut reading, mut writing) = socket.into_split();
    let dripping = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    let mut all = Vec::new();
    let _ =
        timeout(Duration::from_secs(25), reading.read_to_end(&mut all)).await.expect("never cut");
    dripping.abort();
    let all = String::from_utf8_lossy(&all);
    assert_eq!(statuses(&all), [408], "{all}");
    assert!(all.contains("UNSUPPORTED_REQUEST"), "{all}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_blocks_nobody() {
    let app = App::start().await;
    let body =
        r#"{"query":"{ __schema { types { name description fields { name description } } } }"}"#;
    let request = post(
        &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
        body,
    );
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(address(&app)).await.unwrap();
        // More answers than the buffers on the way can hold.
        let sending = async {
            for _ in 0..200 {
                socket.write_all(request.as_bytes()).await.unwrap();
            }
        };
        let _ = timeout(Duration::from_millis(50), sending).await;
        silent.push(socket);
    }
    let begun = Instant::now();
    for _ in 0..5 {
        app.person("acme-owner").data("{ viewer { id } }").await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_is_served_though_silent_ones_have_all_places() {
    let mut settings = AppSettings::default();
    settings.client_limits.connections = 4;
    settings.client_limits.min_idle = Duration::ZERO;
    let app = App::with(settings).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(address(&app)).await.unwrap());
    }
    let flood: Vec<_> = (0..50)
        .map(|_| {
            let client = app.client(Some("acme"), Some(app::token("acme-owner")));
            let query = serde_json::json!({ "query": "{ viewer { id } }" });
            // There may be no place at all while the others are served, and idle connections are
            // closed for others.
            tokio::spawn(async move {
                let ask = || client.post().json(&query).send();
                while !ask().await.is_ok_and(|answer| answer.status() == 200) {
                    sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    for waiting in flood {
        timeout(Duration::from_mins(1), waiting).await.expect("never served").unwrap();
    }
    drop(silent);
}
