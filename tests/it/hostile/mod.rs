//! Clients that mean harm: documents, bytes, sockets and tokens that no program of good will sends.
//! Whatever they do, they get a clear answer at once or lose their connection, and everybody else
//! is served.

mod attempts;
mod bodies;
mod documents;
mod keys;
pub mod memory;
mod refusals;
mod slow;
mod strangers;
mod streams;
mod tokens;
mod values;
mod variables;
mod ways;
mod wire;

use std::{net::SocketAddr, time::Duration};

use crate::support::App;

/// Something to send, and the answer that it must get.
pub struct Attack {
    pub name: &'static str,
    pub body: Vec<u8>,
    pub status: u16,
    pub code: &'static str,
}

/// What a debug build may take for what a release build answers within 100 ms.
pub const AT_ONCE: Duration = Duration::from_secs(8);

fn address(app: &App) -> SocketAddr {
    app.base.trim_start_matches("http://").parse().unwrap()
}

/// The longest part of the answer, in characters, that stands in what was sent as well.
fn echo(sent: &[u8], answer: &str) -> usize {
    const STEP: usize = 25;
    let sent = String::from_utf8_lossy(sent);
    let chars: Vec<char> = answer.chars().collect();
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
