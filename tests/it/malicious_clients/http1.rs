//! Malformed HTTP/1.1 over plain sockets: each request is rejected or cut off, none is parsed as
//! two requests, and other clients are served.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::address;
use crate::support::{App, app};

/// The limit for responses and disconnects that need no waiting.
const SOON: Duration = Duration::from_secs(5);

/// Returns everything that the server sends until it closes the connection; `None` when it does not
/// close it.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may close the connection before it has read everything.
    let _ = socket.write_all(bytes).await;
    receive(&mut socket, SOON).await
}

/// Returns everything received until the connection is closed; `None` when it is not closed in
/// time.
pub async fn receive(socket: &mut TcpStream, most: Duration) -> Option<String> {
    let mut response = Vec::new();
    let mut part = [0; 1_024];
    let reading = async {
        while let Ok(count @ 1..) = socket.read(&mut part).await {
            response.extend_from_slice(&part[..count]);
        }
    };
    timeout(most, reading).await.ok()?;
    Some(String::from_utf8_lossy(&response).into_owned())
}

/// Returns the status codes of all responses.
pub fn statuses(response: &str) -> Vec<u16> {
    let after = response.split("HTTP/1.1 ").skip(1);
    after.map(|rest| rest[..3].parse().unwrap()).collect()
}

pub fn post(headers: &str, body: &str) -> String {
    let token = app::token("acme-owner");
    format!(
        "POST /org/acme/graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n{body}"
    )
}

const QUERY: &str = r#"{"query":"{ viewer { name } }"}"#;
const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn malformed_requests_are_rejected_and_disconnected() {
    let app = App::start().await;
    let address = address(&app);
    let ok = exchange(
        address,
        post(&format!("{JSON}Content-Length: {}\r\nConnection: close\r\n", QUERY.len()), QUERY)
            .as_bytes(),
    )
    .await
    .unwrap();
    assert_eq!(statuses(&ok), [200], "{ok}");
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    let many = "X: y\r\n".repeat(200);
    let large = format!("X: {}\r\n", "y".repeat(70_000));
    let larger = "X-Y: z\r\n".repeat(90) + &format!("X: {}\r\n", "y".repeat(1_000_000));
    for (name, bytes, expected) in [
        ("noise", "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        ("a TLS greeting", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}".repeat(8), 400),
        ("no version", format!("GET /healthz\r\n{close}"), 400),
        ("an unknown version", format!("GET /healthz HTTP/3.7\r\n{close}"), 400),
        ("three targets", format!("GET /healthz /x /y HTTP/1.1\r\n{close}"), 400),
        ("a method of odd characters", format!("G(T /healthz HTTP/1.1\r\n{close}"), 400),
        (
            "a target with a bare control character",
            format!("GET /heal\u{1}thz HTTP/1.1\r\n{close}"),
            400,
        ),
        ("a target of 100,000", format!("GET /{} HTTP/1.1\r\n{close}", "x".repeat(100_000)), 431),
        ("a header without a colon", format!("GET /healthz HTTP/1.1\r\nnonsense\r\n{close}"), 400),
        (
            "a header with a space in its name",
            format!("GET /healthz HTTP/1.1\r\nX Y: z\r\n{close}"),
            400,
        ),
        (
            "a header with a space before its colon",
            format!("GET /healthz HTTP/1.1\r\nX : z\r\n{close}"),
            400,
        ),
        ("a folded header", format!("GET /healthz HTTP/1.1\r\nX: y\r\n z\r\n{close}"), 400),
        ("a NUL in a header", format!("GET /healthz HTTP/1.1\r\nX: y\u{0}z\r\n{close}"), 400),
        (
            "a bare carriage return in a header",
            format!("GET /healthz HTTP/1.1\r\nX: y\rz\r\n{close}"),
            400,
        ),
        ("200 headers", format!("GET /healthz HTTP/1.1\r\n{many}{close}"), 431),
        ("a header of 70,000", format!("GET /healthz HTTP/1.1\r\n{large}{close}"), 431),
        ("a header of a million", format!("GET /healthz HTTP/1.1\r\n{larger}{close}"), 431),
        ("no Host", "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), 400),
        ("two Hosts", format!("GET /healthz HTTP/1.1\r\nHost: y\r\n{close}"), 400),
    ] {
        let response = exchange(address, bytes.as_bytes()).await;
        let response = response.unwrap_or_else(|| panic!("{name}: the connection stays open"));
        assert!(response.len() < 1_000, "{name}: {response}");
        // A client that still sends when the server closes the connection may lose the response.
        if !(response.is_empty() && bytes.len() > 60_000) {
            assert_eq!(statuses(&response), [expected], "{name}: {response}");
        }
    }
    assert_eq!(
        app.user("acme-owner").data("{ viewer { name } }").await["viewer"]["name"],
        "Olivia"
    );
}

#[tokio::test]
async fn no_bytes_are_parsed_as_one_request_by_some_servers_and_two_by_others() {
    let app = App::start().await;
    let address = address(&app);
    let hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let length = QUERY.len();
    for (name, headers, body) in [
        (
            "two lengths that differ",
            format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
            QUERY.to_owned(),
        ),
        (
            "two lengths in one line",
            format!("Content-Length: {length}, {length}, 0\r\n"),
            QUERY.to_owned(),
        ),
        ("a length with a sign", format!("Content-Length: +{length}\r\n"), QUERY.to_owned()),
        ("a negative length", "Content-Length: -1\r\n".to_owned(), QUERY.to_owned()),
        ("a length in hexadecimal", "Content-Length: 0x1f\r\n".to_owned(), QUERY.to_owned()),
        (
            "a length out of range",
            format!("Content-Length: {}\r\n", "9".repeat(40)),
            QUERY.to_owned(),
        ),
        (
            "chunked not as the last encoding",
            "Transfer-Encoding: chunked, identity\r\n".to_owned(),
            "0\r\n\r\n".to_owned(),
        ),
        (
            "an unknown encoding",
            "Transfer-Encoding: xchunked\r\n".to_owned(),
            "0\r\n\r\n".to_owned(),
        ),
        (
            "a chunk without a size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("\r\n{QUERY}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk size that is no number",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("zz\r\n{QUERY}\r\n0\r\n\r\n"),
        ),
        (
            "a negative chunk size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("-1\r\n{QUERY}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk size out of range",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("{}\r\n{QUERY}\r\n0\r\n\r\n", "f".repeat(40)),
        ),
        (
            "a chunk longer than its size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("3\r\n{QUERY}\r\n0\r\n\r\n"),
        ),
        (
            "an endless chunk extension",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("1;{}\r\n", "x".repeat(100_000)),
        ),
    ] {
        let bytes = post(&format!("{JSON}{headers}"), &format!("{body}{hidden}"));
        let response = exchange(address, bytes.as_bytes()).await;
        let response = response.unwrap_or_else(|| panic!("{name}: the connection stays open"));
        assert_eq!(statuses(&response), [400], "{name}: {response}");
    }
    // RFC 9112, section 6.3: with both headers, the encoding counts, and the connection closes
    // after the response.
    let both = format!("{JSON}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    let chunked = format!("{length:x}\r\n{QUERY}\r\n0\r\n\r\n{hidden}");
    let response = exchange(address, post(&both, &chunked).as_bytes()).await.unwrap();
    assert!([vec![400], vec![200]].contains(&statuses(&response)), "{response}");
    // Two well-formed requests on one connection are answered in order.
    let two = post(&format!("{JSON}Content-Length: {length}\r\n"), &format!("{QUERY}{hidden}"));
    let response = exchange(address, two.as_bytes()).await.unwrap();
    assert_eq!(statuses(&response), [200, 200], "{response}");
}

#[tokio::test]
async fn an_incomplete_or_non_json_body_gets_an_error() {
    let app = App::start().await;
    let mut socket = TcpStream::connect(address(&app)).await.unwrap();
    let half = post(&format!("{JSON}Content-Length: 1000\r\n"), QUERY);
    socket.write_all(half.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let response = receive(&mut socket, SOON).await.unwrap();
    assert!(response.is_empty() || statuses(&response) == [400], "{response}");
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/json;charset=latin1\r\n",
        "Content-Type: \u{ff}\r\n",
        "Content-Type: application/json, text/plain\r\n",
    ] {
        let bytes =
            post(&format!("{kind}Content-Length: {}\r\nConnection: close\r\n", QUERY.len()), QUERY);
        let response = exchange(address(&app), bytes.as_bytes()).await.unwrap();
        assert_eq!(statuses(&response), [415], "{kind}: {response}");
    }
    let waits = post(
        &format!(
            "{JSON}Expect: 100-continue\r\nContent-Length: {}\r\nConnection: close\r\n",
            QUERY.len()
        ),
        QUERY,
    );
    assert_eq!(
        statuses(&exchange(address(&app), waits.as_bytes()).await.unwrap()).last(),
        Some(&200)
    );
}
