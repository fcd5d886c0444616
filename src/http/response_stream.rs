//! The response stream of an operation: for a WebSocket, and at the client's pace for the body of
//! one HTTP response.

use std::{sync::Arc, time::Duration};

use async_graphql::ServerError;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use tokio::sync::mpsc;

use super::{Server, json::serialize, persisted_documents::Asked};
use crate::{
    admission::Source,
    graphql::refusal,
    request::{Prepared, RequestContext, code},
};

/// How many results wait for the client, and how long the next one waits for room.
const BUFFER: usize = 4;
const SEND_WAIT: Duration = Duration::from_secs(10);

/// A piece of the body of a response.
#[derive(Debug)]
pub(super) enum Frame {
    /// A result, as JSON.
    Result(String),
    /// The operation is complete. It does not follow if the response is cut.
    End,
}

/// Streams the results of an operation, or the errors for which it did not start. The stream is cut
/// when the client does not accept a result in time, and a subscription when the server stops.
pub(super) async fn frames(
    server: &Arc<Server>,
    prepared: Result<Prepared, Vec<ServerError>>,
    call: RequestContext,
) -> BoxStream<'static, Frame> {
    let is_subscription =
        prepared.as_ref().is_ok_and(|prepared| prepared.subscribes_to().is_some());
    let started = match prepared {
        Ok(prepared) => results(server, prepared, call).await,
        Err(errors) => Err(errors),
    };
    let results = started.unwrap_or_else(|errors| {
        let refused = serialize(&serde_json::json!({ "errors": errors }));
        stream::once(async move { refused }).boxed()
    });
    let frames = results.map(Frame::Result).chain(stream::once(async { Frame::End })).boxed();
    let (sender, mut receiver) = mpsc::channel(BUFFER);
    let stopping = server.stopping();
    tokio::spawn(async move {
        let stopping = async {
            // A query or mutation ends by itself, so shutdown waits for it.
            if is_subscription { stopping.await } else { std::future::pending().await }
        };
        tokio::select! {
            () = forward(frames, &sender) => {}
            () = sender.closed() => {}
            () = stopping => {}
        }
    });
    stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
}

/// Forwards results from a separate task. The response is polled only when the client accepts
/// bytes, so only a separate task can time out a client that accepts none.
async fn forward(mut frames: BoxStream<'static, Frame>, sender: &mpsc::Sender<Frame>) {
    while let Some(frame) = frames.next().await {
        if sender.send_timeout(frame, SEND_WAIT).await.is_err() {
            return;
        }
    }
}

/// Streams the results as JSON. A query or mutation has exactly one.
///
/// # Errors
///
/// Why the operation did not start.
pub(super) async fn results(
    server: &Server,
    prepared: Prepared,
    call: RequestContext,
) -> Result<BoxStream<'static, String>, Vec<ServerError>> {
    let service = Arc::clone(&server.service);
    if prepared.subscribes_to().is_none() {
        let answer = if prepared.introspection_only() {
            Box::pin(service.introspect(prepared, call.source())).await
        } else {
            service.execute(prepared, call).await
        };
        if !answer.executed {
            return Err(answer.response.errors);
        }
        let json = serialize(&answer.response);
        return Ok(stream::once(async move { json }).boxed());
    }
    let request_id = call.request_id;
    server.subscriptions.subscribe(service, prepared, call).await.map_err(|error| {
        server.service.metrics.refused(error.code().name());
        server.service.metrics.limited(&error);
        vec![refusal(&error, request_id)]
    })
}

/// Resolves the document, parses it, and caches it if the client registers it under a name.
///
/// # Errors
///
/// Why the document is refused.
pub(super) async fn prepare(
    server: &Server,
    asked: Asked,
    source: Source<'_>,
) -> Result<Prepared, Vec<ServerError>> {
    let prepared = try_prepare(server, asked, source).await;
    if let Some(error) = prepared.as_ref().err().and_then(|errors| errors.first()) {
        server.service.metrics.refused(code(error).unwrap_or_default());
    }
    prepared
}

async fn try_prepare(
    server: &Server,
    asked: Asked,
    source: Source<'_>,
) -> Result<Prepared, Vec<ServerError>> {
    let name = asked.name.clone();
    let request = server.documents.resolve(asked).map_err(|refusal| vec![refusal.into()])?;
    let named = name.map(|name| (name, request.query.clone()));
    let prepared = server.service.prepare(request, source).await?;
    if let Some((name, query)) = named {
        server.documents.remember(&name, &query);
    }
    Ok(prepared)
}
