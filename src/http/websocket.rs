//! WebSocket: the protocol `graphql-transport-ws` with its close codes.
//!
//! `GraphQLWebSocket` of async-graphql-axum is not used, because it falls short of the protocol:
//! - It never sends `error`. It has no initialization timeout (4408), replaces an operation with
//!   the same id (4409), and closes with 1002 and 1011 instead of 4400, 4401 and 4403.
//! - It reads all messages that have arrived before it polls an operation. A subscription could
//!   miss a change that the result of a later query already includes.
//! - It waits for the client without limit when it sends, and polls no operation meanwhile.
//! - It sends no pings, and ends neither with the token nor when the connection is idle.
//! - It serializes an event for each subscription. Here one text serves all that share it.
//!
//! A socket does not outlive its token: its subscriptions end with `UNAUTHENTICATED`, responses in
//! progress are sent, and it closes with 4403. A socket without a running operation closes with
//! 1000 after the idle timeout.

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
    json::{parse, serialize},
    operation_rate::charge,
    request_body::from_fields,
    response_stream::{prepare, results},
};
use crate::{
    auth::Caller, error::Error, graphql::refusal, request::RequestContext, tenancy::Destination,
};

/// The name of the protocol.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

const PONG: &str = r#"{"type":"pong"}"#;

/// How long the server waits for the first message, and for the client to accept a message.
const INIT_WAIT: Duration = Duration::from_secs(10);
const SEND_WAIT: Duration = Duration::from_secs(10);

/// How long the server waits for the client to close the connection as well.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How often the server pings the client, and how long the client may stay silent.
const PING: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_mins(1);

/// Concurrent operations of a connection.
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

/// Closes the connection with a code of the protocol and a reason.
struct Close(u16, &'static str);

type Outcome<T = ()> = Result<T, Close>;

/// The id of an operation, a message of it, and whether it is the last.
type OutgoingMessage = (String, String, bool);

/// One WebSocket connection.
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    pub(super) destination: Destination,
    /// The token of the HTTP request, if it had one.
    pub(super) token: Option<String>,
    pub(super) request_id: Uuid,
    pub(super) place: Option<ConnectionSlot>,
}

/// The state of a connection after its caller is authenticated.
struct Conversation<'connection> {
    connection: &'connection Connection,
    caller: Arc<Caller>,
    running: HashMap<String, AbortHandle>,
    messages: SelectAll<BoxStream<'static, OutgoingMessage>>,
    ping: Interval,
    last_message_at: Instant,
    /// When the token expires.
    expiry: Instant,
    /// Held while operations run.
    busy: Option<Busy>,
    idle_since: Instant,
}

impl Connection {
    /// Serves the client until one side closes the connection.
    pub(super) async fn serve(self, mut socket: WebSocket) {
        let stopping = self.server.stopping();
        let outcome = tokio::select! {
            outcome = self.converse(&mut socket) => outcome,
            () = stopping => Err(Close(1001, "the server is stopping")),
            () = self.given_away() => Err(Close(1013, "the server has too many connections")),
        };
        let closing = async {
            if let Err(Close(code, reason)) = outcome {
                let frame = CloseFrame { code, reason: reason.into() };
                // The client may be gone, or another one may wait for its place.
                if socket.send(Message::Close(Some(frame))).await.is_err() || code == 1013 {
                    return;
                }
            }
            // Completes the closing handshake of either side (RFC 6455, section 7.1.1).
            while let Some(Ok(_)) = socket.recv().await {}
        };
        let _ = tokio::time::timeout(CLOSE_WAIT, closing).await;
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
            Some(FromClient::ConnectionInit { payload }) => self.authenticate(payload).await?,
            Some(_) => return Err(Close(4401, "Unauthorized")),
        };
        send(socket, &json!({ "type": "connection_ack" }).to_string()).await?;
        // Boxed, because this large future would enlarge that of the connection.
        Box::pin(Conversation::new(self, caller).run(socket)).await
    }

    /// Authenticates by the token of the first message, or of the HTTP request.
    async fn authenticate(&self, payload: Option<Map<String, Value>>) -> Outcome<Arc<Caller>> {
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
        let remaining = caller.expires_at - connection.server.service.settings.clock.now();
        let remaining = remaining.to_std().unwrap_or_default();
        Self {
            connection,
            caller,
            running: HashMap::new(),
            messages: SelectAll::new(),
            ping: interval_at((now + PING).into(), PING),
            last_message_at: now,
            // An expiry that `Instant` cannot represent is far enough away to be ignored.
            expiry: now.checked_add(remaining).unwrap_or(now + Duration::from_hours(24 * 365)),
            busy: None,
            idle_since: now,
        }
    }

    async fn run(mut self, socket: &mut WebSocket) -> Outcome {
        let idle_timeout = self.connection.server.client_limits.websocket_idle_timeout;
        loop {
            let idle_end = self.idle_since + idle_timeout;
            tokio::select! {
                message = receive(socket) => {
                        self.last_message_at = Instant::now();
                        let Some(message) = message? else { return Ok(()) };
                        self.handle(socket, message).await?;
                    }
                    Some(message) = self.messages.next() => self.forward(socket, message).await?,
                    _ = self.ping.tick() => {
                        if self.last_message_at.elapsed() > SILENCE {
                            return Err(Close(1001, "the client did not respond to pings"));
                    }
                    send(socket, r#"{"type":"ping"}"#).await?;
                }
                () = sleep_until(self.expiry.into()), if self.running.is_empty() => {
                    return Err(Close(4403, "the token has expired"));
                }
                () = sleep_until(idle_end.into()), if self.running.is_empty() => {
                    return Err(Close(1000, "no operation within the idle timeout"));
                }
            }
            self.update_activity();
        }
    }

    fn update_activity(&mut self) {
        if self.running.is_empty() != self.busy.is_none() {
            self.busy = match &self.connection.place {
                Some(place) if !self.running.is_empty() => Some(place.busy()),
                _ => None,
            };
            self.idle_since = Instant::now();
        }
    }

    async fn handle(&mut self, socket: &mut WebSocket, message: FromClient) -> Outcome {
        match message {
            FromClient::ConnectionInit { .. } => {
                return Err(Close(4429, "Too many initialisation requests"));
            }
            FromClient::Ping {} => send(socket, PONG).await?,
            FromClient::Pong {} => {}
            FromClient::Complete { id } => {
                if let Some(operation) = self.running.remove(&id) {
                    operation.abort();
                    // Drops the operation now: the next message may need its slot among the user's
                    // subscriptions.
                    for _ in 0..=self.running.len() {
                        let Some(Some(message)) = self.messages.next().now_or_never() else {
                            break;
                        };
                        self.forward(socket, message).await?;
                    }
                }
            }
            FromClient::Subscribe { id, payload } => {
                let (operation, handle) = Box::pin(self.begin(&id, payload)).await?;
                self.messages.push(operation);
                self.running.insert(id, handle);
            }
        }
        Ok(())
    }

    async fn forward(
        &mut self,
        socket: &mut WebSocket,
        (id, message, last): OutgoingMessage,
    ) -> Outcome {
        // Messages of an operation that the client has completed are dropped.
        if self.running.contains_key(&id) {
            if last {
                self.running.remove(&id);
            }
            send(socket, &message).await?;
        }
        Ok(())
    }

    /// Starts an operation and returns its messages. A subscription is active when this returns, so
    /// the result of a later query over the same socket is at least as new as the subscription's
    /// first event.
    async fn begin(
        &mut self,
        id: &str,
        payload: Map<String, Value>,
    ) -> Outcome<(BoxStream<'static, OutgoingMessage>, AbortHandle)> {
        let Connection { server, destination, request_id, .. } = self.connection;
        if self.running.contains_key(id) {
            return Err(Close(4409, "Subscriber for this id already exists"));
        }
        if self.running.len() >= MOST_OPERATIONS {
            return Err(Close(4400, "too many concurrent operations"));
        }
        if server.service.settings.clock.now() >= self.caller.expires_at {
            return Err(Close(4403, "the token has expired"));
        }
        let request = from_fields(payload).map_err(|_| Close(4400, "Invalid message received"))?;
        let call = RequestContext {
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
        let messages = match prepared {
            Err(errors) => into_messages(id, Err(errors)),
            Ok(prepared) if prepared.subscribes_to().is_some() => {
                into_messages(id, results(server, prepared, call).await)
            }
            Ok(prepared) => {
                let (server, request_id) = (Arc::clone(server), *request_id);
                // In a task, so that a client that accepts no bytes cannot keep a transaction open.
                let answering = AbortOnDropHandle::new(tokio::spawn(async move {
                    results(&server, prepared, call).await
                }));
                let answered = async move {
                    let results = answering.await.unwrap_or_else(|error| {
                        Err(vec![refusal(&Error::internal(error), request_id)])
                    });
                    into_messages(id, results)
                };
                stream::once(answered).flatten().boxed()
            }
        };
        let (handle, registration) = AbortHandle::new_pair();
        Ok((Abortable::new(messages, registration).boxed(), handle))
    }
}

/// Turns the results of an operation, or its errors, into messages of the protocol.
fn into_messages(
    id: String,
    results: Result<BoxStream<'static, String>, Vec<ServerError>>,
) -> BoxStream<'static, OutgoingMessage> {
    let last = id.clone();
    match results {
        Ok(results) => results
            .map(move |result| {
                // The result is already JSON.
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

/// The first message other than a ping or pong, which may arrive at any time.
async fn first(socket: &mut WebSocket) -> Outcome<Option<FromClient>> {
    loop {
        match receive(socket).await? {
            Some(FromClient::Ping {}) => send(socket, PONG).await?,
            Some(FromClient::Pong {}) => {}
            message => return Ok(message),
        }
    }
}

/// The next message, or `None` when the client has gone.
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

/// Sends a message. Disconnects a client that does not accept it in time.
async fn send(socket: &mut WebSocket, message: &str) -> Outcome {
    let sending = socket.send(Message::Text(message.into()));
    match tokio::time::timeout(SEND_WAIT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Close(1001, "the client does not accept messages")),
    }
}
