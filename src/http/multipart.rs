//! Multipart: the results are parts of one `multipart/mixed` response, with `subscriptionSpec=1.0`.
//! Apollo's clients use this protocol for subscriptions.
//!
//! `create_multipart_mixed_stream` of async-graphql falls short of the protocol: it does not wrap a
//! result in `payload`. It also writes the delimiter in front of a part, but Apollo Client reads a
//! part when the delimiter behind it arrives, and would get each event with the next one.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::timeout;

use super::response_stream::Frame;

/// How often a silent stream sends an empty part. Proxies close silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

const CONTENT_TYPE: &str = "multipart/mixed;boundary=\"graphql\";subscriptionSpec=\"1.0\"";
const START: &str = "\r\n--graphql";
const END: &str = "--\r\n";

/// Responds with a part for each result. A response without the last delimiter was cut.
pub(super) fn answer(frames: BoxStream<'static, Frame>) -> Response {
    let parts = stream::unfold(frames, |mut frames| async move {
        let bytes = match timeout(KEEP_ALIVE, frames.next()).await {
            Err(_) => part("{}"),
            Ok(Some(Frame::Result(json))) => part(&format!(r#"{{"payload":{json}}}"#)),
            Ok(Some(Frame::End)) => END.into(),
            Ok(None) => return None,
        };
        Some((bytes, frames))
    });
    let body = stream::once(async { Bytes::from(START) }).chain(parts).map(Ok::<_, Infallible>);
    // Without X-Accel-Buffering, nginx delays parts until its buffer is full.
    let headers = [(header::CONTENT_TYPE.as_str(), CONTENT_TYPE), ("x-accel-buffering", "no")];
    (headers, Body::from_stream(body)).into_response()
}

/// A part, with the delimiter that ends it.
fn part(json: &str) -> Bytes {
    format!("\r\ncontent-type: application/json\r\n\r\n{json}{START}").into()
}
