//! Server-sent events: the protocol of graphql-sse in "distinct connections mode", with one
//! operation per request.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_graphql::ServerError;
use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;

use super::{
    Server,
    response_stream::{json, results},
};
use crate::request::{Prepared, RequestContext};

/// How often a silent stream sends a comment. Proxies close silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// How many results wait for the client, and how long the next one waits for room.
const BUFFER: usize = 4;
const SEND_WAIT: Duration = Duration::from_secs(10);

/// Responds with a stream of results that ends with "complete".
pub(super) async fn answer(
    server: &Arc<Server>,
    prepared: Result<Prepared, Vec<ServerError>>,
    call: RequestContext,
) -> Response {
    let is_subscription =
        prepared.as_ref().is_ok_and(|prepared| prepared.subscribes_to().is_some());
    let started = match prepared {
        Ok(prepared) => results(server, prepared, call).await,
        Err(errors) => Err(errors),
    };
    let results = match started {
        Ok(results) => results,
        Err(errors) => {
            let refused = json(&serde_json::json!({ "errors": errors }));
            stream::once(async move { refused }).boxed()
        }
    };
    let events = results
        .map(|result| Event::default().event("next").data(result))
        .chain(stream::once(async { Event::default().event("complete").data("") }))
        .boxed();
    let (sender, receiver) = mpsc::channel(BUFFER);
    let stopping = server.stopping();
    tokio::spawn(async move {
        let stopping = async {
            // A query or mutation ends by itself, so shutdown waits for it.
            if is_subscription { stopping.await } else { std::future::pending().await }
        };
        tokio::select! {
            () = forward(events, &sender) => {}
            () = sender.closed() => {}
            () = stopping => {}
        }
    });
    let events = stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Without X-Accel-Buffering, nginx delays events until its buffer is full.
    let headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")];
    (headers, stream).into_response()
}

/// Forwards events from a separate task. The response is polled only when the client accepts bytes,
/// so only a separate task can time out a client that accepts none.
async fn forward(mut events: BoxStream<'static, Event>, sender: &mpsc::Sender<Event>) {
    while let Some(event) = events.next().await {
        if sender.send_timeout(event, SEND_WAIT).await.is_err() {
            return;
        }
    }
}
