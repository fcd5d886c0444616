//! Server-sent events: the protocol of graphql-sse in "distinct connections mode", with one
//! operation per request.

use std::{convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::{StreamExt, stream::BoxStream};

use super::response_stream::Frame;

/// How often a silent stream sends a comment. Proxies close silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// Responds with an event for each result. A response without the event "complete" was cut.
pub(super) fn answer(frames: BoxStream<'static, Frame>) -> Response {
    let events = frames.map(|frame| {
        Ok::<_, Infallible>(match frame {
            Frame::Result(json) => Event::default().event("next").data(json),
            Frame::End => Event::default().event("complete").data(""),
        })
    });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Without X-Accel-Buffering, nginx delays events until its buffer is full.
    let headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")];
    (headers, stream).into_response()
}
