//! WebSocket: the protocol `graphql-transport-ws`, with the close codes that its specification names.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_graphql::ServerError;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable},
    stream::{self, BoxStream, SelectAll},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Server,
    authenticate::refused_caller,
    incoming::from_fields,
    json::parse,
    results::{prepare, results},
};
use crate::{auth::Caller, error::Error, request::Call, tenancy::Destination};

/// The name of the protocol.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

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
type Told = (String, Value, bool);

/// One connection.
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    pub(super) destination: Destination,
    /// The token of the HTTP request, if it had one.
    pub(super) token: Option<String>,
    pub(super) request_id: Uuid,
}

impl Connection {
    /// Speaks with the client until one of both ends it.
    pub(super) async fn serve(self, mut socket: WebSocket) {
        let stopping = self.server.stopping();
        let outcome = tokio::select! {
            outcome = self.converse(&mut socket) => outcome,
            () = stopping => Err(Close(1001, "the server stops")),
        };
        if let Err(Close(code, reason)) = outcome {
            let frame = CloseFrame { code, reason: reason.into() };
            // The client may be gone.
            let _ = tokio::time::timeout(SEND_WAIT, socket.send(Message::Close(Some(frame)))).await;
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
        send(socket, &json!({ "type": "connection_ack" })).await?;
        let mut running: HashMap<String, AbortHandle> = HashMap::new();
        let mut told: SelectAll<BoxStream<'static, Told>> = SelectAll::new();
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = receive(socket) => {
                    heard = Instant::now();
                    match message? {
                        None => return Ok(()),
                        Some(FromClient::ConnectionInit { .. }) => {
                            return Err(Close(4429, "Too many initialisation requests"));
                        }
                        Some(FromClient::Ping {}) => send(socket, &json!({ "type": "pong" })).await?,
                        Some(FromClient::Pong {}) => {}
                        Some(FromClient::Complete { id }) => {
                            if let Some(operation) = running.remove(&id) {
                                operation.abort();
                            }
                        }
                        Some(FromClient::Subscribe { id, payload }) => {
                            let (operation, handle) = self.begin(&id, payload, &caller, &running).await?;
                            told.push(operation);
                            running.insert(id, handle);
                        }
                    }
                }
                Some((id, message, last)) = told.next() => {
                    // What was completed meanwhile is told no more.
                    if running.contains_key(&id) {
                        if last {
                            running.remove(&id);
                        }
                        send(socket, &message).await?;
                    }
                }
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(Close(1001, "nothing was heard of the client"));
                    }
                    send(socket, &json!({ "type": "ping" })).await?;
                }
            }
        }
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

    /// Begins an operation; what it tells comes as messages of the protocol. A subscription watches when this returns, so whatever
    /// the client asks for over the same socket afterwards is at least as new as where its events begin.
    async fn begin(
        &self,
        id: &str,
        payload: Map<String, Value>,
        caller: &Arc<Caller>,
        running: &HashMap<String, AbortHandle>,
    ) -> Outcome<(BoxStream<'static, Told>, AbortHandle)> {
        if running.contains_key(id) {
            return Err(Close(4409, "Subscriber for this id already exists"));
        }
        if running.len() >= MOST_OPERATIONS {
            return Err(Close(4400, "too many operations at the same time"));
        }
        if self.server.engine.environment.clock.now() >= caller.expires_at {
            return Err(Close(4403, "the token has expired"));
        }
        let request = from_fields(payload).map_err(|_| Close(4400, "Invalid message received"))?;
        let server = Arc::clone(&self.server);
        let call = Call {
            caller: Arc::clone(caller),
            destination: self.destination.clone(),
            request_id: self.request_id,
            idempotency_key: None,
            freshness: None,
        };
        let told = match prepare(&server, request).await {
            Err(errors) => tell(id.to_owned(), Err(errors)),
            Ok(prepared) if prepared.subscribes_to().is_some() => {
                tell(id.to_owned(), results(&server, prepared, call).await)
            }
            Ok(prepared) => {
                let id = id.to_owned();
                let answered = async move { tell(id, results(&server, prepared, call).await) };
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
                let payload: Value = serde_json::from_str(&result).unwrap_or_default();
                (id.clone(), json!({ "type": "next", "id": id, "payload": payload }), false)
            })
            .chain(stream::once(async move {
                let complete = json!({ "type": "complete", "id": last });
                (last, complete, true)
            }))
            .boxed(),
        Err(errors) => {
            let refused = json!({ "type": "error", "id": last, "payload": errors });
            stream::once(async move { (last, refused, true) }).boxed()
        }
    }
}

/// The first message that is no ping, which may come at any time.
async fn first(socket: &mut WebSocket) -> Outcome<Option<FromClient>> {
    loop {
        match receive(socket).await? {
            Some(FromClient::Ping {}) => send(socket, &json!({ "type": "pong" })).await?,
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
async fn send(socket: &mut WebSocket, message: &Value) -> Outcome {
    let sending = socket.send(Message::Text(message.to_string().into()));
    match tokio::time::timeout(SEND_WAIT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Close(1001, "the client does not take what it is sent")),
    }
}
