//! Clients that open connections and send nothing, to occupy every slot and make the server look
//! dead.

use std::net::SocketAddr;

use chrono::Utc;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Duration, timeout},
};

use crate::support::{App, AppSettings, HANG, app, websocket::Socket};

const PROJECTS: &str = "subscription { projectChanged { project { name } } }";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
const ANONYMOUS: &str =
    "GET /org/acme/graphql?query=%7Bviewer%7Bid%7D%7D HTTP/1.1\r\nHost: x\r\n\r\n";

/// No connection is idle for this long.
const NEVER: Duration = Duration::from_hours(1);

async fn app_with(connections: usize, by_address: usize, min_idle: Duration) -> App {
    let trusted_proxies = vec!["127.0.0.9/32".parse().unwrap()];
    let mut settings = AppSettings { trusted_proxies, ..AppSettings::default() };
    settings.client_limits.connections = connections;
    settings.client_limits.connections_by_address = by_address;
    settings.client_limits.min_idle = min_idle;
    App::with(settings).await
}

/// Connects from one of this machine's loopback addresses.
async fn connect(app: &App, from: &str) -> TcpStream {
    let to: SocketAddr = app.base.trim_start_matches("http://").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Sends a request. Returns the head and at least the beginning of the body of the response.
async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    let mut part = [0; 4_096];
    while !response.contains("\r\n\r\n") {
        let count = timeout(HANG, stream.read(&mut part)).await.expect("no response").unwrap();
        assert!(count > 0, "closed without a response");
        response.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    response
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap()
}

/// Asserts that the server has closed the connection.
async fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let closed =
        timeout(HANG, stream.read_to_end(&mut rest)).await.expect("the connection is kept");
    assert!(closed.is_err() || rest.is_empty(), "{rest:?}");
}

/// Opens a connection that takes a slot and stays idle.
async fn silent(app: &App, from: &str) -> TcpStream {
    let mut stream = connect(app, from).await;
    assert_eq!(status(&ask(&mut stream, HEALTH).await), "200");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_free_connections_answers_health_checks() {
    let app = app_with(4, 1_000, NEVER).await;
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(silent(&app, "127.0.0.1").await);
    }
    for round in 0..100 {
        let mut check = connect(&app, "127.0.0.1").await;
        let response = ask(&mut check, HEALTH).await;
        assert_eq!(status(&response), "200", "round {round}");
        assert!(response.contains("connection: close"), "{response}");
        let mut client = connect(&app, "127.0.0.2").await;
        let response = ask(&mut client, ANONYMOUS).await;
        assert_eq!(status(&response), "503", "round {round}");
        assert!(response.contains("retry-after: 1"), "{response}");
    }
    // Idle connections do not take the reserved slots either.
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(connect(&app, "127.0.0.1").await);
    }
    let mut check = connect(&app, "127.0.0.1").await;
    assert_eq!(status(&ask(&mut check, HEALTH).await), "200");
    drop(taken.pop());
    // The slot is free as soon as the server has noticed the end of the connection.
    loop {
        let mut client = connect(&app, "127.0.0.2").await;
        match status(&ask(&mut client, ANONYMOUS).await) {
            "503" => {}
            status => return assert_eq!(status, "401"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_gets_no_more_than_its_share_of_connections() {
    let app = app_with(10, 3, NEVER).await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(silent(&app, "127.0.0.2").await);
    }
    let mut fourth = connect(&app, "127.0.0.2").await;
    assert_eq!(status(&ask(&mut fourth, ANONYMOUS).await), "503");
    let mut other = connect(&app, "127.0.0.3").await;
    assert_eq!(status(&ask(&mut other, ANONYMOUS).await), "401");
    // A trusted proxy stands for many clients.
    for _ in 0..5 {
        let mut proxied = connect(&app, "127.0.0.9").await;
        assert_eq!(status(&ask(&mut proxied, ANONYMOUS).await), "401");
        taken.push(proxied);
    }
    drop((taken, other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_at_its_share_loses_its_longest_idle_connection() {
    let app = app_with(10, 2, Duration::ZERO).await;
    let mut older = silent(&app, "127.0.0.3").await;
    let mut first = silent(&app, "127.0.0.2").await;
    let mut second = silent(&app, "127.0.0.2").await;
    let mut third = connect(&app, "127.0.0.2").await;
    assert_eq!(status(&ask(&mut third, ANONYMOUS).await), "401");
    assert_closed(&mut first).await;
    for kept in [&mut older, &mut second] {
        assert_eq!(status(&ask(kept, ANONYMOUS).await), "401");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_closes_the_longest_idle_connection_and_no_active_one() {
    let app = app_with(4, 1_000, Duration::ZERO).await;
    // The oldest connection, on which an operation runs.
    let mut socket = Socket::open(&app, "acme-viewer").await;
    socket.subscribe("1", PROJECTS).await;
    assert_eq!(socket.wait_for_messages().await, Vec::<Value>::new());
    let mut first = silent(&app, "127.0.0.2").await;
    let mut second = silent(&app, "127.0.0.3").await;
    let mut third = silent(&app, "127.0.0.4").await;
    assert_eq!(status(&ask(&mut first, HEALTH).await), "200");
    let mut next = connect(&app, "127.0.0.5").await;
    assert_eq!(status(&ask(&mut next, ANONYMOUS).await), "401");
    assert_closed(&mut second).await;
    for kept in [&mut third, &mut first, &mut next] {
        assert_eq!(status(&ask(kept, ANONYMOUS).await), "401");
    }
    drop(next);
    let create = "mutation { createProject(input: { name: \"Live\" }) { project { id } } }";
    app.user("acme-owner").data(create).await;
    assert_eq!(socket.event().await["projectChanged"]["project"]["name"], "Live");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_websockets_of_one_user_leave_connections_to_others() {
    let mut settings = AppSettings::default();
    settings.client_limits.connections = 20;
    settings.client_limits.min_idle = Duration::ZERO;
    let app = App::with(settings).await;
    let mut sockets = Vec::new();
    for _ in 0..60 {
        sockets.push(Socket::open(&app, "globex-viewer").await);
    }
    app.user("acme-owner").data("{ viewer { id } }").await;
    assert_eq!(
        sockets[0].receive().await,
        json!({ "close": 1013 }),
        "the connection that was idle the longest"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_without_an_operation_is_closed() {
    let mut settings = AppSettings::default();
    settings.client_limits.websocket_idle_timeout = Duration::from_millis(300);
    let app = App::with(settings).await;
    let mut used = Socket::open(&app, "acme-owner").await;
    used.subscribe("1", PROJECTS).await;
    let mut unused = Socket::open(&app, "acme-owner").await;
    assert_eq!(unused.receive().await, json!({ "close": 1000 }));
    // Pings do not count as operations.
    let mut pinging = Socket::open(&app, "acme-owner").await;
    loop {
        pinging.send(&json!({ "type": "ping" })).await;
        match pinging.receive().await {
            pong if pong["type"] == "pong" => tokio::time::sleep(Duration::from_millis(50)).await,
            end => {
                assert_eq!(end, json!({ "close": 1000 }));
                break;
            }
        }
    }
    let create = "mutation { createProject(input: { name: \"Live\" }) { project { id } } }";
    app.user("acme-owner").data(create).await;
    assert_eq!(used.event().await["projectChanged"]["project"]["name"], "Live");
    used.complete("1").await;
    assert_eq!(used.receive().await, json!({ "close": 1000 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_ends_with_its_token() {
    let app = App::start().await;
    // The leeway is thirty seconds.
    let claims = json!({ "sub": "acme-owner", "exp": Utc::now().timestamp() - 24 });
    let token = app::token_with(&claims);
    let mut used = Socket::open_with(&app, "acme-owner", &token).await;
    used.subscribe("1", PROJECTS).await;
    let mut unused = Socket::open_with(&app, "acme-owner", &token).await;
    assert_eq!(unused.receive().await, json!({ "close": 4403 }));
    assert_eq!(used.end().await["code"], "UNAUTHENTICATED");
    assert_eq!(used.receive().await["type"], "complete");
    assert_eq!(used.receive().await, json!({ "close": 4403 }));
}
