//! Tracks the activity of a connection, so that an inactive one is closed. Only HTTP/2 needs this:
//! HTTP/1.1 has a timeout between requests, but an HTTP/2 client that answers pings would stay
//! connected forever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, http::Version, response::Response};
use http_body_util::BodyExt;
use tokio::{sync::watch, time::timeout};

use super::connection_limits::ClientLimits;

#[derive(Clone, Copy, Default)]
struct State {
    /// Grows with every event.
    moves: u64,
    /// Requests in progress, which have their own time limits.
    working: usize,
    /// Responses being sent.
    leaving: usize,
}

/// The activity of one connection. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Activity {
    state: watch::Sender<State>,
    multiplexed: Arc<AtomicBool>,
}

/// A request whose response is not completely sent.
pub(super) struct Running {
    state: watch::Sender<State>,
    is_answered: bool,
}

impl Running {
    /// Wraps the response, which counts as sent when its body is dropped.
    pub(super) fn until_taken(mut self, response: Response) -> Response {
        self.is_answered = true;
        self.state.send_modify(|state| {
            state.moves += 1;
            state.working -= 1;
            state.leaving += 1;
        });
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                self.state.send_modify(|state| state.moves += 1);
                frame
            }))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let is_answered = self.is_answered;
        self.state.send_modify(|state| {
            state.moves += 1;
            let counted = if is_answered { &mut state.leaving } else { &mut state.working };
            *counted -= 1;
        });
    }
}

impl Activity {
    /// Registers a request. Returns `None` for HTTP/1.1, which has its own timeouts.
    pub(super) fn begin(&self, version: Version) -> Option<Running> {
        let multiplexed = version == Version::HTTP_2;
        self.multiplexed.store(multiplexed, Ordering::Relaxed);
        self.state.send_modify(|state| {
            state.moves += 1;
            state.working += usize::from(multiplexed);
        });
        multiplexed.then(|| Running { state: self.state.clone(), is_answered: false })
    }

    /// Resolves when the connection has been inactive for too long.
    pub(super) async fn ceased(&self, limits: ClientLimits) {
        let mut state = self.state.subscribe();
        let (mut seen, mut limit) = (0, limits.header_timeout);
        loop {
            let moved = timeout(limit, state.wait_for(|state| state.moves != seen)).await;
            let Ok(Ok(State { moves, working, leaving })) =
                moved.map(|state| state.map(|state| *state))
            else {
                return;
            };
            if !self.multiplexed.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            seen = moves;
            limit = match (working, leaving) {
                (0, 0) => limits.idle_timeout,
                (0, _) => limits.stall_timeout,
                _ => Duration::MAX,
            };
        }
    }
}
