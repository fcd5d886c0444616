//! Server-sent events: the protocol of graphql-sse in its "distinct connections mode", an operation a request.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_graphql::ServerError;
use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::{StreamExt, stream};
use uuid::Uuid;

use super::{
    Server,
    results::{json, results},
};
use crate::{auth::Caller, request::Prepared, tenancy::Destination};

/// How often a silent stream shows that it lives; proxies end connections on which nothing moves.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// Answers with a stream of results, and "complete" at its end.
pub(super) async fn answer(
    server: &Arc<Server>,
    prepared: Result<Prepared, Vec<ServerError>>,
    caller: Arc<Caller>,
    destination: Destination,
    request_id: Uuid,
) -> Response {
    let begun = match prepared {
        Ok(prepared) => results(server, prepared, caller, destination, request_id).await,
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
        .take_until(server.stopping())
        .map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
