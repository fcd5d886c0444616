//! The response stream of an operation, for server-sent events and WebSocket.

use std::sync::Arc;

use async_graphql::{Response, ServerError};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{Server, persisted_documents::Asked};
use crate::{
    admission::Source,
    graphql::refusal,
    request::{Prepared, RequestContext, code},
};

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
    if prepared.introspection_only() {
        let answer = Box::pin(service.introspect(prepared, call.source())).await;
        return if answer.executed {
            Ok(one(&answer.response))
        } else {
            Err(answer.response.errors)
        };
    }
    if prepared.subscribes_to().is_none() {
        let answer = service.execute(prepared, call).await;
        return if answer.executed {
            Ok(one(&answer.response))
        } else {
            Err(answer.response.errors)
        };
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

fn one(response: &Response) -> BoxStream<'static, String> {
    let json = json(response);
    stream::once(async move { json }).boxed()
}

/// Serializes a value. Cannot fail, because keys are strings and numbers are finite.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
