//! HTTP/2 frame by frame (RFC 9113), as no client library sends it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::address;
use crate::support::{App, AppSettings, HANG};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A literal header without indexing (RFC 7541, section 6.2.2). Both texts must be short.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

fn request() -> Vec<u8> {
    [
        literal(":method", "GET"),
        literal(":scheme", "http"),
        literal(":path", "/healthz"),
        literal(":authority", "x"),
    ]
    .concat()
}

async fn begin(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(PREFACE).await.unwrap();
    socket.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    socket
}

/// Returns the kinds and payloads of all frames, and whether the server closed the connection in
/// time.
async fn frames(socket: &mut TcpStream, most: Duration) -> (Vec<(u8, Vec<u8>)>, bool) {
    let mut bytes = Vec::new();
    let closed = timeout(most, async {
        let mut part = [0; 1_024];
        while let Ok(count @ 1..) = socket.read(&mut part).await {
            bytes.extend_from_slice(&part[..count]);
        }
    });
    let closed = closed.await.is_ok();
    let mut frames = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        frames.push((rest[3], rest[9..].get(..length).unwrap_or_default().to_vec()));
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    (frames, closed)
}

async fn assert_others_are_served(app: &App) {
    let started = Instant::now();
    let name = app.user("acme-owner").data("{ viewer { name } }").await;
    assert_eq!(name["viewer"]["name"], "Olivia");
    assert!(started.elapsed() < HANG, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_reset_streams_end_the_connection() {
    let app = App::start().await;
    let mut socket = begin(address(&app)).await;
    let cancel = 8_u32.to_be_bytes();
    let flood = (0..10_000_u32).flat_map(|n| {
        let stream = 2 * n + 1;
        let open = frame(HEADERS, END_STREAM | END_HEADERS, stream, &request());
        [open, frame(RST_STREAM, 0, stream, &cancel)].concat()
    });
    let flood: Vec<u8> = flood.collect();
    // The server may close the connection before it has read everything.
    let _ = socket.write_all(&flood).await;
    let (frames, closed) = frames(&mut socket, HANG).await;
    assert!(closed, "the connection stays open");
    let response = frames.iter().any(|(kind, _)| *kind == GOAWAY);
    assert!(response || frames.len() < 10_000, "{} frames", frames.len());
    assert_others_are_served(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_their_connection_or_get_a_response() {
    let app = App::start().await;
    let endless: Vec<u8> = std::iter::once(frame(HEADERS, END_STREAM, 1, &request()))
        .chain((0..20_000).map(|n| frame(CONTINUATION, 0, 1, &literal(&format!("x-{n}"), "y"))))
        .flatten()
        .collect();
    let empty: Vec<u8> = std::iter::once(frame(HEADERS, END_STREAM, 1, &request()))
        .chain((0..20_000).map(|_| frame(CONTINUATION, 0, 1, &[])))
        .flatten()
        .collect();
    // A table of 4 KiB in every header block, and a table whose size grows without end.
    let table = [&[0x3f, 0xff, 0xff, 0xff, 0xff, 0x7f][..], &request()].concat();
    for (name, flood, ends) in [
        ("headers without an end", endless, true),
        ("empty continuations", empty, true),
        (
            "a header table beyond the limit",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &table),
            true,
        ),
        (
            "a frame beyond the limit",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &vec![0; 100_000]),
            true,
        ),
        (
            "a stream with an even number",
            frame(HEADERS, END_STREAM | END_HEADERS, 2, &request()),
            true,
        ),
        ("a window that overflows", frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2), true),
        ("a window update of zero", frame(8, 0, 0, &[0; 4]), true),
        ("a reset of an unopened stream", frame(RST_STREAM, 0, 99, &[0; 4]), true),
        ("settings of an invalid length", frame(SETTINGS, 0, 0, &[0; 7]), true),
        ("data on stream zero", frame(0, 0, 0, b"x"), true),
        ("20,000 settings", frame(SETTINGS, 0, 0, &[]).repeat(20_000), false),
        ("20,000 pings", frame(PING, 0, 0, &[0; 8]).repeat(20_000), false),
        ("20,000 frames of an unknown kind", frame(200, 0, 0, &[0; 8]).repeat(20_000), false),
        ("20,000 unsolicited ping responses", frame(PING, ACK, 0, &[0; 8]).repeat(20_000), false),
    ] {
        let mut socket = begin(address(&app)).await;
        let _ = timeout(Duration::from_secs(2), socket.write_all(&flood)).await;
        let most = if ends { Duration::from_secs(10) } else { Duration::from_millis(300) };
        let (_, closed) = frames(&mut socket, most).await;
        assert!(closed || !ends, "{name}: the connection stays open");
        assert_others_are_served(&app).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_concurrent_streams_is_limited() {
    let app = App::start().await;
    let mut socket = begin(address(&app)).await;
    let json = [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":path", "/org/acme/graphql"),
        literal(":authority", "x"),
        literal("content-type", "application/json"),
    ]
    .concat();
    // Missing bodies keep their streams open. The requests need a token, because the server waits
    // for no body without one.
    let token = crate::support::app::token("acme-owner");
    let length = u8::try_from(token.len() + "Bearer ".len() - 127).unwrap();
    let bearer =
        [&[0, 13][..], b"authorization", &[127, length], b"Bearer ", token.as_bytes()].concat();
    for n in 0..500_u32 {
        let headers = frame(HEADERS, END_HEADERS, 2 * n + 1, &[&json[..], &bearer].concat());
        let _ = socket.write_all(&headers).await;
    }
    let (frames, _) = frames(&mut socket, Duration::from_secs(1)).await;
    let refused = frames.iter().filter(|(kind, _)| *kind == RST_STREAM).count();
    assert!(refused >= 400, "{refused} of 500 were rejected, {} frames", frames.len());
    assert_others_are_served(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed() {
    let mut settings = AppSettings::default();
    settings.client_limits.header_timeout = Duration::from_millis(500);
    settings.client_limits.idle_timeout = Duration::from_secs(1);
    let app = App::with(settings).await;
    let mut socket = begin(address(&app)).await;
    let request_frame = frame(HEADERS, END_STREAM | END_HEADERS, 1, &request());
    socket.write_all(&request_frame).await.unwrap();
    let started = Instant::now();
    let (frames, closed) = frames(&mut socket, HANG).await;
    assert!(frames.iter().any(|(kind, _)| *kind == HEADERS), "no response");
    assert!(closed, "open for {:?}", started.elapsed());
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_opens_its_window_is_disconnected() {
    let mut settings = AppSettings::default();
    settings.client_limits.stall_timeout = Duration::from_secs(1);
    let app = App::with(settings).await;
    let mut socket = begin(address(&app)).await;
    // The client's window has no room for a single byte.
    let window = [&[0, 4][..], &0_u32.to_be_bytes()].concat();
    let request_frame = frame(HEADERS, END_STREAM | END_HEADERS, 1, &request());
    socket.write_all(&[frame(SETTINGS, 0, 0, &window), request_frame].concat()).await.unwrap();
    let started = Instant::now();
    let (frames, closed) = frames(&mut socket, HANG).await;
    assert!(frames.iter().any(|(kind, _)| *kind == HEADERS), "no response");
    assert!(closed, "open for {:?}", started.elapsed());
}
