//! WebSocket: the protocol `graphql-transport-ws`, with the close codes that its specification
//! names.
//!
//! A socket lives no longer than its token: subscriptions end with `UNAUTHENTICATED`, answers under
//! way are sent, and the socket closes with 4403. One without an operation closes after a while,
//! with 1000.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_graphql::ServerError;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable},
    stream::{self, BoxStream, SelectAll},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Interval, interval_at, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    Server,
    authenticate::refused_caller,
    connection_limits::{Busy, ConnectionSlot},
    json::parse,
    operation_rate::charge,
    request_body::from_fields,
    response_stream::{json as serialize, prepare, results},
};
use crate::{auth::Caller, error::Error, graphql::refusal, request::Call, tenancy::Destination};

/// The name of the protocol.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

const PONG: &str = r#"{"type":"pong"}"#;

/// How long to wait for the first message, and for a client to take one.
const INIT_WAIT: Duration = Duration::from_secs(10);
const SEND_WAIT: Duration = Duration::from_secs(10);

/// How often a client is asked whether it lives, and how long it may say nothing.
const PING: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_mins(1);

/// Operations that a connection may have at the same time.
const MOST_OPERATIONS: usize = 100;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromClient {
    ConnectionInit { payload: Option<Map<String, Value>> },
    Ping {},
    Pong {},
    Subscribe { id: String, payload: Map<String, Value> },
    Complete { id: String },
}

/// Why the connection is closed: one of the protocol's codes, and a reason.
struct Close(u16, &'static str);

type Outcome<T = ()> = Result<T, Close>;

/// A message of an operation, and whether it is its last.
type Told = (String, String, bool);

/// One connection.
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    pub(super) destination: Destination,
    /// The token of the HTTP request, if it had one.
    pub(super) token: Option<String>,
    pub(super) request_id: Uuid,
    pub(super) place: Option<ConnectionSlot>,
}

/// What happens on a connection once its caller is known.
struct Conversation<'connection> {
    connection: &'connection Connection,
    caller: Arc<Caller>,
    running: HashMap<String, AbortHandle>,
    told: SelectAll<BoxStream<'static, Told>>,
    ping: Interval,
    heard: Instant,
    /// When the token expires.
    expiry: Instant,
    /// Held while operations run.
    busy: Option<Busy>,
    idle_since: Instant,
}

impl Connection {
    /// Speaks with the client until one of both ends it.
    pub(super) async fn serve(self, mut socket: WebSocket) {
        let stopping = self.server.stopping();
        let outcome = tokio::select! {
            outcome = self.converse(&mut socket) => outcome,
            () = stopping => Err(Close(1001, "the server stops")),
            () = self.given_away() => Err(Close(1013, "the server has no room for this connection")),
        };
        if let Err(Close(code, reason)) = outcome {
            let frame = CloseFrame { code, reason: reason.into() };
            // The client may be gone.
            let _ = tokio::time::timeout(SEND_WAIT, socket.send(Message::Close(Some(frame)))).await;
        }
    }

    async fn given_away(&self) {
        match &self.place {
            Some(place) => place.given_away().await,
            None => std::future::pending().await,
        }
    }

    async fn converse(&self, socket: &mut WebSocket) -> Outcome {
        if socket.protocol().and_then(|name| name.to_str().ok()) != Some(PROTOCOL) {
            return Err(Close(4406, "Subprotocol not acceptable"));
        }
        let first = tokio::time::timeout(INIT_WAIT, first(socket)).await;
        let first = first.map_err(|_| Close(4408, "Connection initialisation timeout"))??;
        let caller = match first {
            None => return Ok(()),
            Some(FromClient::ConnectionInit { payload }) => self.know(payload).await?,
            Some(_) => return Err(Close(4401, "Unauthorized")),
        };
        send(socket, &json!({ "type": "connection_ack" }).to_string()).await?;
        // Large, and once for each connection.
        Box::pin(Conversation::new(self, caller).go_on(socket)).await
    }

    /// Who calls: by the token of the first message, or of the HTTP request.
    async fn know(&self, payload: Option<Map<String, Value>>) -> Outcome<Arc<Caller>> {
        let named = payload.as_ref().and_then(|payload| {
            ["Authorization", "authorization", "token"]
                .iter()
                .find_map(|name| payload.get(*name)?.as_str())
        });
        let token = named.or(self.token.as_deref()).ok_or(Close(4401, "Unauthorized"))?;
        let token = match token.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => token,
        };
        let verified = self.server.verifier.verify(token).await;
        verified.map_err(|error| {
            match refused_caller(&self.server, error, self.destination.client_ip) {
                Error::Unauthenticated(_) => Close(4403, "Forbidden"),
                _ => Close(1013, "try again later"),
            }
        })
    }
}

impl<'connection> Conversation<'connection> {
    fn new(connection: &'connection Connection, caller: Arc<Caller>) -> Self {
        let now = Instant::now();
        let left = caller.expires_at - connection.server.service.settings.clock.now();
        let left = left.to_std().unwrap_or_default();
        Self {
            connection,
            caller,
            running: HashMap::new(),
            told: SelectAll::new(),
            ping: interval_at((now + PING).into(), PING),
            heard: now,
            // A token without an end that a clock can show has none.
            expiry: now.checked_add(left).unwrap_or(now + Duration::from_hours(24 * 365)),
            busy: None,
            idle_since: now,
        }
    }

    async fn go_on(mut self, socket: &mut WebSocket) -> Outcome {
        let idle_timeout = self.connection.server.client_limits.websocket_idle_timeout;
        loop {
            let idle_end = self.idle_since + idle_timeout;
            tokio::select! {
                message = receive(socket) => {
                    self.heard = Instant::now();
                    let Some(message) = message? else { return Ok(()) };
                    self.take(socket, message).await?;
                }
                Some(told) = self.told.next() => self.pass_on(socket, told).await?,
                _ = self.ping.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return Err(Close(1001, "nothing was heard of the client"));
                    }
                    send(socket, r#"{"type":"ping"}"#).await?;
                }
                () = sleep_until(self.expiry.into()), if self.running.is_empty() => {
                    return Err(Close(4403, "the token has expired"));
                }
                () = sleep_until(idle_end.into()), if self.running.is_empty() => {
                    return Err(Close(1000, "no operation for a while"));
                }
            }
            self.note_activity();
        }
    }

    fn note_activity(&mut self) {
        if self.running.is_empty() != self.busy.is_none() {
            self.busy = match &self.connection.place {
                Some(place) if !self.running.is_empty() => Some(place.busy()),
                _ => None,
            };
            self.idle_since = Instant::now();
        }
    }

    async fn take(&mut self, socket: &mut WebSocket, message: FromClient) -> Outcome {
        match message {
            FromClient::ConnectionInit { .. } => {
                return Err(Close(4429, "Too many initialisation requests"));
            }
            FromClient::Ping {} => send(socket, PONG).await?,
            FromClient::Pong {} => {}
            FromClient::Complete { id } => {
                if let Some(operation) = self.running.remove(&id) {
                    operation.abort();
                    // Drops it now: the next message may need its place among the user's
                    // subscriptions.
                    for _ in 0..=self.running.len() {
                        let Some(Some(told)) = self.told.next().now_or_never() else { break };
                        self.pass_on(socket, told).await?;
                    }
                }
            }
            FromClient::Subscribe { id, payload } => {
                let (operation, handle) = Box::pin(self.begin(&id, payload)).await?;
                self.told.push(operation);
                self.running.insert(id, handle);
            }
        }
        Ok(())
    }

    async fn pass_on(&mut self, socket: &mut WebSocket, (id, message, last): Told) -> Outcome {
        // What was completed meanwhile is told no more.
        if self.running.contains_key(&id) {
            if last {
                self.running.remove(&id);
            }
            send(socket, &message).await?;
        }
        Ok(())
    }

    /// Begins an operation; what it tells comes as messages of the protocol. A subscription watches
    /// when this returns, so whatever the client asks for over the same socket afterwards is at
    /// least as new as where its events begin.
    async fn begin(
        &mut self,
        id: &str,
        payload: Map<String, Value>,
    ) -> Outcome<(BoxStream<'static, Told>, AbortHandle)> {
        let Connection { server, destination, request_id, .. } = self.connection;
        if self.running.contains_key(id) {
            return Err(Close(4409, "Subscriber for this id already exists"));
        }
        if self.running.len() >= MOST_OPERATIONS {
            return Err(Close(4400, "too many operations at the same time"));
        }
        if server.service.settings.clock.now() >= self.caller.expires_at {
            return Err(Close(4403, "the token has expired"));
        }
        let request = from_fields(payload).map_err(|_| Close(4400, "Invalid message received"))?;
        let call = Call {
            caller: Arc::clone(&self.caller),
            destination: destination.clone(),
            request_id: *request_id,
            idempotency_key: None,
            freshness: None,
            budget: server.service.budget,
        };
        let id = id.to_owned();
        let charged = charge(server, call.source(), 1, request.request.query.len());
        let prepared = match charged {
            Ok(()) => prepare(server, request, call.source()).await,
            Err(error) => Err(vec![refusal(&error, *request_id)]),
        };
        let told = match prepared {
            Err(errors) => tell(id, Err(errors)),
            Ok(prepared) if prepared.subscribes_to().is_some() => {
                tell(id, results(server, prepared, call).await)
            }
            Ok(prepared) => {
                let (server, request_id) = (Arc::clone(server), *request_id);
                // In a task: a client that takes nothing must not keep a transaction open.
                let answering = AbortOnDropHandle::new(tokio::spawn(async move {
                    results(&server, prepared, call).await
                }));
                let answered = async move {
                    let results = answering.await.unwrap_or_else(|error| {
                        Err(vec![refusal(&Error::internal(error), request_id)])
                    });
                    tell(id, results)
                };
                stream::once(answered).flatten().boxed()
            }
        };
        let (handle, registration) = AbortHandle::new_pair();
        Ok((Abortable::new(told, registration).boxed(), handle))
    }
}

/// The messages of an operation: its results and its end, or why there is none.
fn tell(
    id: String,
    results: Result<BoxStream<'static, String>, Vec<ServerError>>,
) -> BoxStream<'static, Told> {
    let last = id.clone();
    match results {
        Ok(results) => results
            .map(move |result| {
                // The result is JSON already.
                let name = serialize(&id);
                let message = format!(r#"{{"type":"next","id":{name},"payload":{result}}}"#);
                (id.clone(), message, false)
            })
            .chain(stream::once(async move {
                let complete = json!({ "type": "complete", "id": last }).to_string();
                (last, complete, true)
            }))
            .boxed(),
        Err(errors) => {
            let refused = json!({ "type": "error", "id": last, "payload": errors }).to_string();
            stream::once(async move { (last, refused, true) }).boxed()
        }
    }
}

/// The first message that is no ping, which may come at any time.
async fn first(socket: &mut WebSocket) -> Outcome<Option<FromClient>> {
    loop {
        match receive(socket).await? {
            Some(FromClient::Ping {}) => send(socket, PONG).await?,
            Some(FromClient::Pong {}) => {}
            message => return Ok(message),
        }
    }
}

/// The next message; `None` when the client has gone.
async fn receive(socket: &mut WebSocket) -> Outcome<Option<FromClient>> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => {
                let message = parse("the message", text.as_bytes())
                    .ok()
                    .and_then(|message| serde_json::from_value(message).ok());
                return message.map(Some).ok_or(Close(4400, "Invalid message received"));
            }
            Some(Ok(Message::Binary(_))) => return Err(Close(4400, "Invalid message received")),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
        }
    }
}

/// A client that takes nothing is cut.
async fn send(socket: &mut WebSocket, message: &str) -> Outcome {
    let sending = socket.send(Message::Text(message.into()));
    match tokio::time::timeout(SEND_WAIT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Close(1001, "the client does not take what it is sent")),
    }
}
