//! A WebSocket with the protocol `graphql-transport-ws`, message by message.

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{App, HANG, app};

pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects as a demo user in their organization, and waits until the token is accepted.
    pub async fn open(app: &App, subject: &str) -> Self {
        Self::open_with(app, subject, &app::token(subject)).await
    }

    pub async fn open_with(app: &App, subject: &str, token: &str) -> Self {
        let mut request =
            app.user(subject).url.replacen("http", "ws", 1).into_client_request().unwrap();
        let protocol = "graphql-transport-ws".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let mut socket = Self(socket);
        let payload = json!({ "Authorization": format!("Bearer {token}") });
        socket.send(&json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(socket.receive().await["type"], "connection_ack");
        socket
    }

    pub async fn send(&mut self, message: &Value) {
        self.0.send(Message::Text(message.to_string().into())).await.unwrap();
    }

    pub async fn subscribe(&mut self, id: &str, query: &str) {
        self.send(&json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    pub async fn complete(&mut self, id: &str) {
        self.send(&json!({ "type": "complete", "id": id })).await;
    }

    /// Returns the next message that is no ping, or `{"close": CODE}`.
    pub async fn receive(&mut self) -> Value {
        loop {
            let message = timeout(HANG, self.0.next()).await.expect("no message");
            if let Some(message) = read(message) {
                return message;
            }
        }
    }

    /// Returns a message that has already arrived.
    pub fn received(&mut self) -> Option<Value> {
        loop {
            let message = self.0.next().now_or_never()?;
            if let Some(message) = read(message) {
                return Some(message);
            }
        }
    }

    /// Waits until the server has processed everything sent before: the response to a query comes
    /// after that. Returns the messages that arrived meanwhile.
    pub async fn wait_for_messages(&mut self) -> Vec<Value> {
        self.subscribe("settle", "{ __typename }").await;
        let mut before = Vec::new();
        loop {
            let message = self.receive().await;
            if message["id"] != "settle" {
                before.push(message);
            } else if message["type"] == "complete" {
                return before;
            }
        }
    }

    /// Returns the data of the next event.
    pub async fn event(&mut self) -> Value {
        let message = self.receive().await;
        assert!(message["payload"]["data"].is_object(), "{message}");
        message["payload"]["data"].clone()
    }

    /// Returns the next message, which has the reason for the end of a subscription.
    pub async fn end(&mut self) -> Value {
        let message = self.receive().await;
        let error = if message["type"] == "error" {
            &message["payload"][0]
        } else {
            &message["payload"]["errors"][0]
        };
        assert!(error.is_object(), "{message}");
        error["extensions"].clone()
    }
}

fn read(message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) -> Option<Value> {
    match message {
        Some(Ok(Message::Text(text))) => {
            let message: Value = serde_json::from_str(&text).unwrap();
            (message["type"] != "ping").then_some(message)
        }
        Some(Ok(Message::Close(frame))) => {
            Some(json!({ "close": frame.map(|frame| u16::from(frame.code)) }))
        }
        Some(Ok(_)) => None,
        Some(Err(_)) | None => Some(json!({ "close": "closed without a message" })),
    }
}
