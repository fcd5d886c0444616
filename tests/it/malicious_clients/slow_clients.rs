//! Slow clients and clients that occupy connections: each is cut off at its timeout, and other
//! clients are not affected.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    address,
    http1::{post, receive, statuses},
};
use crate::support::{App, AppSettings, app};

const HEADERS: Duration = Duration::from_millis(600);
const IDLE: Duration = Duration::from_millis(1_500);

/// How long after its timeout a connection may be closed on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

/// The server may see a connection a little before its client does.
const EARLY: Duration = Duration::from_millis(100);

async fn app_with_short_timeouts(connections: usize) -> App {
    let mut settings = AppSettings::default();
    settings.client_limits.connections = connections;
    settings.client_limits.header_timeout = HEADERS;
    settings.client_limits.idle_timeout = IDLE;
    App::with(settings).await
}

/// Sends the text one byte at a time, and returns when the connection was closed.
async fn send_slowly(app: &App, text: &str, pause: Duration) -> Duration {
    let socket = TcpStream::connect(address(app)).await.unwrap();
    let started = Instant::now();
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
    // A reset closes the connection as well.
    let _ = timeout(Duration::from_secs(30), reading.read_to_end(&mut all))
        .await
        .expect("never closed");
    sending.abort();
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_finishes_its_first_request_is_disconnected() {
    let app = app_with_short_timeouts(100).await;
    let endless = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}", "X: y\r\n".repeat(500));
    let pause = Duration::from_millis(50);
    for text in [
        "",
        "\r\n\r\n\r\n\r\n",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        endless.as_str(),
    ] {
        let took = send_slowly(&app, text, pause).await;
        assert!(
            (HEADERS..HEADERS + SLACK).contains(&(took + EARLY)),
            "{:?} was closed after {took:?}",
            &text[..text.len().min(20)]
        );
    }
    app.user("acme-owner").data("{ viewer { id } }").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_client_is_disconnected() {
    let app = app_with_short_timeouts(100).await;
    let mut socket = TcpStream::connect(address(&app)).await.unwrap();
    for _ in 0..2 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut part = [0; 1_024];
        assert!(socket.read(&mut part).await.unwrap() > 0);
        sleep(HEADERS).await;
    }
    let started = Instant::now();
    assert_eq!(receive(&mut socket, IDLE + SLACK).await.as_deref(), Some(""));
    assert!(
        started.elapsed() + HEADERS + Duration::from_millis(100) > IDLE,
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_for_a_missing_body_is_limited() {
    let app = app_with_short_timeouts(100).await;
    let mut socket = TcpStream::connect(address(&app)).await.unwrap();
    let headers = post("Content-Type: application/json\r\nContent-Length: 100000\r\n", "{");
    socket.write_all(headers.as_bytes()).await.unwrap();
    let started = Instant::now();
    let (mut reading, mut writing) = socket.into_split();
    let dripping = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    let mut all = Vec::new();
    let _ = timeout(Duration::from_secs(25), reading.read_to_end(&mut all))
        .await
        .expect("never closed");
    dripping.abort();
    let all = String::from_utf8_lossy(&all);
    assert_eq!(statuses(&all), [408], "{all}");
    assert!(all.contains("UNSUPPORTED_REQUEST"), "{all}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_blocks_no_other() {
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
        // More responses than the buffers on the way can hold.
        let sending = async {
            for _ in 0..200 {
                socket.write_all(request.as_bytes()).await.unwrap();
            }
        };
        let _ = timeout(Duration::from_millis(50), sending).await;
        silent.push(socket);
    }
    let started = Instant::now();
    for _ in 0..5 {
        app.user("acme-owner").data("{ viewer { id } }").await;
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_is_served_though_idle_ones_hold_every_slot() {
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
            // There may be no free slot while the others are served. The server closes idle
            // connections to free one.
            tokio::spawn(async move {
                let ask = || client.post().json(&query).send();
                while !ask().await.is_ok_and(|response| response.status() == 200) {
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
