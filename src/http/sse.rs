//! Server-sent events: the protocol of graphql-sse in its "distinct connections mode", an operation
//! a request.

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
use crate::request::{Call, Prepared};

/// How often a silent stream shows that it lives; proxies end connections on which nothing moves.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// Results that wait for the client, and how long the next one does.
const BUFFER: usize = 4;
const SEND_WAIT: Duration = Duration::from_secs(10);

/// Answers with a stream of results, and "complete" at its end.
pub(super) async fn answer(
    server: &Arc<Server>,
    prepared: Result<Prepared, Vec<ServerError>>,
    call: Call,
) -> Response {
    let goes_on = prepared.as_ref().is_ok_and(|prepared| prepared.subscribes_to().is_some());
    let begun = match prepared {
        Ok(prepared) => results(server, prepared, call).await,
        Err(errors) => Err(errors),
    };
    let results = match begun {
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
            // What ends by itself is waited for.
            if goes_on { stopping.await } else { std::future::pending().await }
        };
        tokio::select! {
            () = hand_over(events, &sender) => {}
            () = sender.closed() => {}
            () = stopping => {}
        }
    });
    let events = stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Without the second header nginx holds events back until its buffer is full.
    let headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")];
    (headers, stream).into_response()
}

/// In a task of its own, because the answer is only looked at when the client takes something: one
/// that does not is cut.
async fn hand_over(mut events: BoxStream<'static, Event>, sender: &mpsc::Sender<Event>) {
    while let Some(event) = events.next().await {
        if sender.send_timeout(event, SEND_WAIT).await.is_err() {
            return;
        }
    }
}
