//! Malicious clients: documents, bytes, sockets and tokens that no honest program sends. Each gets
//! a clear error at once or loses its connection, and other clients are served.

mod bodies;
mod documents;
mod existence;
mod http1;
mod http2;
pub mod memory;
mod rate_limit;
mod rejected_documents;
mod signing_keys;
mod slow_clients;
mod tokens;
mod transports;
mod values;
mod variables;

use std::{net::SocketAddr, time::Duration};

use crate::support::App;

/// A request body, and the response that it must get.
pub struct Attack {
    pub name: &'static str,
    pub body: Vec<u8>,
    pub status: u16,
    pub code: &'static str,
}

/// The time that a debug build may take for what a release build answers within 100 ms.
pub const AT_ONCE: Duration = Duration::from_secs(8);

fn address(app: &App) -> SocketAddr {
    app.base.trim_start_matches("http://").parse().unwrap()
}

/// Returns the length of the longest part of the response, in characters, that the request contains
/// as well.
fn echo(sent: &[u8], response: &str) -> usize {
    const STEP: usize = 25;
    let sent = String::from_utf8_lossy(sent);
    let chars: Vec<char> = response.chars().collect();
    let is_sent = |part: &[char]| sent.contains(&part.iter().collect::<String>());
    let mut longest = 0;
    for start in (0..chars.len()).step_by(STEP) {
        let (mut from, mut to) = (start, (start + STEP).min(chars.len()));
        if !is_sent(&chars[from..to]) {
            continue;
        }
        while from > 0 && is_sent(&chars[from - 1..to]) {
            from -= 1;
        }
        while to < chars.len() && is_sent(&chars[from..=to]) {
            to += 1;
        }
        longest = longest.max(to - from);
    }
    longest
}
