//! GraphQL over HTTP (the draft of the specification): turns an HTTP request into GraphQL requests,
//! and their results into a response.
//!
//! Only JSON bodies are accepted. Browsers do not send those across origins without a preflight, so
//! a foreign page cannot make a signed-in user's browser change anything here.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use async_graphql::ServerError;
use axum::{
    body::Body,
    extract::{
        ConnectInfo, FromRequestParts, Path, State, rejection::PathRejection, ws::WebSocketUpgrade,
    },
    http::{HeaderMap, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};

use uuid::Uuid;

use super::{
    Server,
    answer::{decorate, failed, json, of_operation, set_rate_limit, set_timing, status, text_of},
    authenticate::{NO_TOKEN, authenticate, bearer, refused_caller},
    client_ip::client_ip,
    connection_limits::ConnectionSlot,
    freshness::{ServedHeaders, freshness},
    graphiql,
    headers::{idempotency_key, is_websocket, request_id, vary},
    multipart,
    negotiate::{MediaType, StreamFormat, negotiate, stream_format},
    operation_rate::receive,
    persisted_documents::Asked,
    request_body::{RequestBody, is_json},
    response_stream::{frames, prepare},
    sse,
    unsupported::Unsupported,
    websocket::{Connection, PROTOCOL},
};
use crate::{
    admission::Source,
    auth::VerifyError,
    config::Introspection,
    error::Error,
    request::{Answer, Prepared, RequestContext},
    tenancy::Destination,
};

/// Handles both paths and all methods.
pub(super) async fn handle(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Option<Path<String>>, PathRejection>,
    request: Request<Body>,
) -> Response {
    vary(respond(server, peer, path, request).await)
}

async fn respond(
    server: Arc<Server>,
    peer: SocketAddr,
    path: Result<Option<Path<String>>, PathRejection>,
    request: Request<Body>,
) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::GET && is_websocket(&parts.headers) {
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &server).await;
        let destination = destination(path, &parts.headers, peer, &server);
        return match upgrade {
            Ok(upgrade) => {
                let place = parts.extensions.remove::<ConnectionSlot>();
                upgraded(upgrade, server, destination, &parts.headers, place)
            }
            Err(rejection) => rejection.into_response(),
        };
    }
    if let Some(redirect) = graphiql::redirect_browser(&parts, &server) {
        return redirect;
    }
    let media = negotiate(&parts.headers);
    let stream = stream_format(&parts.headers);
    let only_stream = media.is_none() && stream.is_some();
    let Some(media) = media.or(only_stream.then_some(MediaType::Json)) else {
        let message = "Accept must allow application/graphql-response+json or application/json";
        return Unsupported(StatusCode::NOT_ACCEPTABLE, message.to_owned()).answer(MediaType::Json);
    };
    if parts.method == Method::OPTIONS {
        return (StatusCode::NO_CONTENT, [(header::ALLOW, "GET, POST, OPTIONS")]).into_response();
    }
    let exchange = Exchange {
        destination: destination(path, &parts.headers, peer, &server),
        stream,
        only_stream,
        request_id: request_id(&parts.headers),
        media,
        method: parts.method,
        server,
    };
    let query = parts.uri.query().unwrap_or_default();
    let response = exchange.answer(&parts.headers, query, body).await;
    response.unwrap_or_else(|unsupported| unsupported.answer(media))
}

/// Where a request should go, and the client's address.
fn destination(
    path: Result<Option<Path<String>>, PathRejection>,
    headers: &HeaderMap,
    peer: SocketAddr,
    server: &Server,
) -> Destination {
    Destination {
        // A path that is not UTF-8 names an organization that does not exist.
        // Slugs have no capital letters, so a path in any case names the organization.
        slug: path
            .unwrap_or_else(|_| Some(Path("\u{fffd}".to_owned())))
            .map(|Path(slug)| slug.to_ascii_lowercase()),
        client_ip: Some(client_ip(headers, peer, &server.trusted_proxies)),
    }
}

/// Continues over a WebSocket.
fn upgraded(
    upgrade: WebSocketUpgrade,
    server: Arc<Server>,
    destination: Destination,
    headers: &HeaderMap,
    place: Option<ConnectionSlot>,
) -> Response {
    let token = bearer(headers).ok().map(ToOwned::to_owned);
    let most = server.max_body_bytes;
    let request_id = request_id(headers);
    let connection = Connection { server, destination, token, request_id, place };
    upgrade
        .protocols([PROTOCOL])
        // Small buffers, because thousands of sockets may be open and silent.
        .read_buffer_size(4 * 1024)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(4 * most)
        .max_message_size(most)
        .max_frame_size(most)
        .on_upgrade(async move |socket| Box::pin(connection.serve(socket)).await)
}

/// The result of one operation.
struct Outcome {
    status: StatusCode,
    answer: Answer,
    served: ServedHeaders,
}

impl Outcome {
    /// The result of an operation that is not valid GraphQL over HTTP.
    fn of(unsupported: Unsupported) -> Self {
        let status = unsupported.0;
        let answer = Answer::refused(vec![unsupported.into()]);
        Self { status, answer, served: ServedHeaders::default() }
    }
}

/// One HTTP request and its context.
struct Exchange {
    server: Arc<Server>,
    destination: Destination,
    request_id: Uuid,
    media: MediaType,
    /// The format of a stream of results, if the client accepts one, and whether it accepts nothing
    /// else. A client that accepts both gets a stream for subscriptions.
    stream: Option<StreamFormat>,
    only_stream: bool,
    method: Method,
}

impl Exchange {
    async fn answer(
        &self,
        headers: &HeaderMap,
        query: &str,
        body: Body,
    ) -> Result<Response, Unsupported> {
        self.check_form(headers)?;
        let caller = match authenticate(&self.server, headers).await {
            Ok(caller) => Some(caller),
            Err(VerifyError::Token(NO_TOKEN))
                if self.server.introspection == Introspection::Always =>
            {
                None
            }
            Err(error) => {
                let address = self.destination.client_ip;
                let error = refused_caller(&self.server, error, address);
                self.server.service.metrics.refused(error.code().name());
                self.server.service.metrics.limited(&error);
                return Ok(failed(self.media, error, self.request_id));
            }
        };
        let source = Source { caller: caller.as_deref(), address: self.destination.client_ip };
        let receiving = receive(&self.server, source, headers, &self.method, query, body);
        let incoming = match receiving.await? {
            Ok(incoming) => incoming,
            Err(error) => return Ok(failed(self.media, error, self.request_id)),
        };
        let freshness = freshness(headers)?;
        let idempotency_key = idempotency_key(headers)?;
        if idempotency_key.is_some() && matches!(incoming, RequestBody::Batch(_)) {
            return Err(Unsupported::bad(
                "Idempotency-Key applies to one operation, not to a batch",
            ));
        }
        let call = caller.map(|caller| RequestContext {
            caller,
            destination: self.destination.clone(),
            request_id: self.request_id,
            idempotency_key,
            freshness,
            budget: self.server.service.budget,
        });
        if let (Some(format), true) = (self.stream, self.only_stream) {
            let (RequestBody::One(asked), Some(call)) = (incoming, call) else {
                return Err(Unsupported::bad("a stream needs a single operation and a token"));
            };
            let prepared = self.prepare(asked, Some(&call)).await;
            return Box::pin(self.respond_with_stream(format, prepared, call)).await;
        }
        match incoming {
            RequestBody::One(request) => {
                let started = Instant::now();
                let prepared = self.prepare(request, call.as_ref()).await;
                if let (Some(format), Ok(subscription), Some(call)) =
                    (self.stream, &prepared, &call)
                    && subscription.subscribes_to().is_some()
                {
                    let call = call.clone();
                    return Box::pin(self.respond_with_stream(format, prepared, call)).await;
                }
                let Outcome { status, answer, served } = self.run(prepared, call).await?;
                let statements = answer.cost.unwrap_or_default().statements;
                let mut response = of_operation(self.media, status, answer);
                served.set_headers(&mut response);
                if !self.server.demo_users.is_empty() {
                    set_timing(&mut response, started.elapsed(), statements);
                }
                Ok(response)
            }
            // Boxed, because this large future would enlarge that of every request.
            RequestBody::Batch(requests) => Box::pin(self.run_batch(requests, call)).await,
        }
    }

    /// The user and address to which a request is charged.
    fn source<'call>(&self, call: Option<&'call RequestContext>) -> Source<'call> {
        let anonymous = Source { caller: None, address: self.destination.client_ip };
        call.map_or(anonymous, RequestContext::source)
    }

    async fn prepare(
        &self,
        asked: Asked,
        call: Option<&RequestContext>,
    ) -> Result<Prepared, Vec<ServerError>> {
        prepare(&self.server, asked, self.source(call)).await
    }

    async fn respond_with_stream(
        &self,
        format: StreamFormat,
        prepared: Result<Prepared, Vec<ServerError>>,
        call: RequestContext,
    ) -> Result<Response, Unsupported> {
        if let Ok(prepared) = &prepared {
            self.check_method(prepared)?;
        }
        let frames = Box::pin(frames(&self.server, prepared, call)).await;
        Ok(match format {
            StreamFormat::Events => sse::answer(frames),
            StreamFormat::Multipart => multipart::answer(frames),
        })
    }

    /// Refuses a mutation by GET, because browsers and proxies may repeat a GET.
    fn check_method(&self, prepared: &Prepared) -> Result<(), Unsupported> {
        if prepared.is_mutation() && self.method == Method::GET {
            let message = "a mutation must be sent with POST".to_owned();
            return Err(Unsupported(StatusCode::METHOD_NOT_ALLOWED, message));
        }
        Ok(())
    }

    fn check_form(&self, headers: &HeaderMap) -> Result<(), Unsupported> {
        match self.method {
            Method::GET => Ok(()),
            Method::POST if is_json(headers) => Ok(()),
            Method::POST => Err(Unsupported(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json, in UTF-8".to_owned(),
            )),
            _ => Err(Unsupported(
                StatusCode::METHOD_NOT_ALLOWED,
                "use POST, or GET for queries".to_owned(),
            )),
        }
    }

    async fn run_batch(
        &self,
        requests: Vec<Result<Asked, Unsupported>>,
        mut call: Option<RequestContext>,
    ) -> Result<Response, Unsupported> {
        if requests.len() > self.server.max_batch {
            let most = self.server.max_batch;
            return Err(Unsupported::bad(format!("a batch may have at most {most} operations")));
        }
        let mut body = String::new();
        let mut statuses = Vec::with_capacity(requests.len());
        let (mut failure, mut rate_limit, mut served) = (None, None, ServedHeaders::default());
        for request in requests {
            let outcome = match request {
                Ok(request) => {
                    let prepared = self.prepare(request, call.as_ref()).await;
                    self.run(prepared, call.clone()).await
                }
                Err(unsupported) => Err(unsupported),
            };
            // The results of the other operations are sent all the same.
            let outcome = outcome.unwrap_or_else(Outcome::of);
            let Outcome { status, answer, served: headers } = outcome;
            let text = text_of(&answer);
            statuses.push(status);
            if let Some(call) = &mut call {
                call.budget = call.budget.after(answer.cost, text.len());
            }
            body.push(if body.is_empty() { '[' } else { ',' });
            body.push_str(&text);
            failure = failure.or(answer.failure);
            // Report the state after the last operation.
            rate_limit = answer.rate_limit.or(rate_limit);
            served = served.and(headers);
            if let Some(call) = &mut call {
                served.precedes(call);
            }
        }
        // The batch has the status of its operations if they agree, otherwise 200.
        let agreed = statuses.windows(2).all(|pair| pair[0] == pair[1]);
        let status = if agreed { statuses.first().copied() } else { None };
        body.push_str(if body.is_empty() { "[]" } else { "]" });
        let mut response = json(self.media, status.unwrap_or(StatusCode::OK), body);
        if status.is_some() {
            decorate(&mut response, failure.as_ref());
        }
        set_rate_limit(&mut response, rate_limit);
        served.set_headers(&mut response);
        Ok(response)
    }

    async fn run(
        &self,
        prepared: Result<Prepared, Vec<ServerError>>,
        call: Option<RequestContext>,
    ) -> Result<Outcome, Unsupported> {
        let service = &self.server.service;
        let freshness = call.as_ref().and_then(|call| call.freshness);
        if let Ok(prepared) = &prepared {
            self.check_method(prepared)?;
        }
        let answer = match prepared {
            Err(errors) => Answer::refused(errors),
            Ok(prepared) if prepared.subscribes_to().is_some() => {
                let message =
                    "a subscription needs Accept: text/event-stream or multipart/mixed, or a WebSocket".to_owned();
                return Err(Unsupported(StatusCode::NOT_ACCEPTABLE, message));
            }
            Ok(prepared) => match call {
                call if prepared.introspection_only() => {
                    Box::pin(service.introspect(prepared, self.source(call.as_ref()))).await
                }
                None => Answer::failed(Error::Unauthenticated(NO_TOKEN.0), self.request_id),
                Some(call) => Arc::clone(service).execute(prepared, call).await,
            },
        };
        let (status, served) = (self.status(&answer), ServedHeaders::of(&answer, freshness));
        Ok(Outcome { status, answer, served })
    }

    fn status(&self, answer: &Answer) -> StatusCode {
        match &answer.failure {
            Some(failure) => status(failure),
            None if answer.executed || self.media == MediaType::Json => StatusCode::OK,
            None => StatusCode::BAD_REQUEST,
        }
    }
}
