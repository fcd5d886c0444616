//! Malformed HTTP/1.1 over plain sockets: each is refused or cut, none is taken for two requests,
//! and others are served.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::address;
use crate::support::{App, app};

/// What a server may take to answer, or to cut, whatever needs no waiting.
const SOON: Duration = Duration::from_secs(5);

/// All that the server says until it closes; `None` when it does neither.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may close before it has taken everything.
    let _ = socket.write_all(bytes).await;
    told(&mut socket, SOON).await
}

/// All that is told until the connection is closed, if it is in time.
pub async fn told(socket: &mut TcpStream, most: Duration) -> Option<String> {
    let mut told = Vec::new();
    let mut part = [0; 1_024];
    let reading = async {
        while let Ok(count @ 1..) = socket.read(&mut part).await {
            told.extend_from_slice(&part[..count]);
        }
    };
    timeout(most, reading).await.ok()?;
    Some(String::from_utf8_lossy(&told).into_owned())
}

/// The status codes of all answers in what was told.
pub fn statuses(told: &str) -> Vec<u16> {
    let after = told.split("HTTP/1.1 ").skip(1);
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
async fn bytes_that_are_no_request_are_refused_and_cut() {
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
        let told = exchange(address, bytes.as_bytes()).await;
        let told = told.unwrap_or_else(|| panic!("{name}: the connection is kept"));
        assert!(told.len() < 1_000, "{name}: {told}");
        // Whoever still sends when the server has closed may lose the answer.
        if !(told.is_empty() && bytes.len() > 60_000) {
            assert_eq!(statuses(&told), [expected], "{name}: {told}");
        }
    }
    assert_eq!(
        app.person("acme-owner").data("{ viewer { name } }").await["viewer"]["name"],
        "Olivia"
    );
}

#[tokio::test]
async fn no_bytes_are_one_request_to_some_and_two_to_others() {
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
            "a length beyond all numbers",
            format!("Content-Length: {}\r\n", "9".repeat(40)),
            QUERY.to_owned(),
        ),
        (
            "chunks that are not the last coding",
            "Transfer-Encoding: chunked, identity\r\n".to_owned(),
            "0\r\n\r\n".to_owned(),
        ),
        (
            "chunks by another name",
            "Transfer-Encoding: xchunked\r\n".to_owned(),
            "0\r\n\r\n".to_owned(),
        ),
        (
            "a chunk without a size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("\r\n{QUERY}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk of no number",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("zz\r\n{QUERY}\r\n0\r\n\r\n"),
        ),
        (
            "a negative chunk",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("-1\r\n{QUERY}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk beyond all numbers",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("{}\r\n{QUERY}\r\n0\r\n\r\n", "f".repeat(40)),
        ),
        (
            "a chunk that is longer than it says",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("3\r\n{QUERY}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk's endless extension",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("1;{}\r\n", "x".repeat(100_000)),
        ),
    ] {
        let bytes = post(&format!("{JSON}{headers}"), &format!("{body}{hidden}"));
        let told = exchange(address, bytes.as_bytes()).await;
        let told = told.unwrap_or_else(|| panic!("{name}: the connection is kept"));
        assert_eq!(statuses(&told), [400], "{name}: {told}");
    }
    // RFC 9112, section 6.3: with both, the coding counts, and the connection ends after the
    // answer.
    let both = format!("{JSON}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    let chunked = format!("{length:x}\r\n{QUERY}\r\n0\r\n\r\n{hidden}");
    let told = exchange(address, post(&both, &chunked).as_bytes()).await.unwrap();
    assert!([vec![400], vec![200]].contains(&statuses(&told)), "{told}");
    // Well-formed, one after the other on one connection: two requests, in their order.
    let two = post(&format!("{JSON}Content-Length: {length}\r\n"), &format!("{QUERY}{hidden}"));
    let told = exchange(address, two.as_bytes()).await.unwrap();
    assert_eq!(statuses(&told), [200, 200], "{told}");
}

#[tokio::test]
async fn a_body_that_ends_early_or_is_none_is_told_so() {
    let app = App::start().await;
    let mut socket = TcpStream::connect(address(&app)).await.unwrap();
    let half = post(&format!("{JSON}Content-Length: 1000\r\n"), QUERY);
    socket.write_all(half.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let told = told(&mut socket, SOON).await.unwrap();
    assert!(told.is_empty() || statuses(&told) == [400], "{told}");
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/json;charset=latin1\r\n",
        "Content-Type: \u{ff}\r\n",
        "Content-Type: application/json, text/plain\r\n",
    ] {
        let bytes =
            post(&format!("{kind}Content-Length: {}\r\nConnection: close\r\n", QUERY.len()), QUERY);
        let told = exchange(address(&app), bytes.as_bytes()).await.unwrap();
        assert_eq!(statuses(&told), [415], "{kind}: {told}");
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
