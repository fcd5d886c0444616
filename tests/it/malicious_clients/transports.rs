//! All transports of the API, each tried with a token. The result leaves out what differs between
//! any two requests.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::{RequestBuilder, header::HeaderMap};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::support::App;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Post,
    Change,
    Get,
    Events,
    Multipart,
    Socket,
    Schema,
}

pub const ALL: [Transport; 7] = [
    Transport::Post,
    Transport::Change,
    Transport::Get,
    Transport::Events,
    Transport::Multipart,
    Transport::Socket,
    Transport::Schema,
];

/// The response, comparable between requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Response {
    /// The HTTP status, or the close code of the WebSocket.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

const QUERY: &str = "{ organization { id name } }";
const CHANGE: &str = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
const WATCH: &str = "subscription { projectChanged { id } }";

/// Sends a request with this token. `path` stands before `/graphql`.
pub async fn ask(
    http: &reqwest::Client,
    app: &App,
    transport: Transport,
    path: &str,
    token: &str,
) -> Response {
    let url = format!("{}{path}/graphql", app.base);
    let post = |query: &str| http.post(&url).json(&json!({ "query": query }));
    let modern = "application/graphql-response+json";
    let request = match transport {
        Transport::Post => post(QUERY).header("accept", modern),
        Transport::Change => post(CHANGE).header("accept", modern),
        Transport::Get => http.get(&url).query(&[("query", QUERY)]).header("accept", modern),
        Transport::Events => post(WATCH).header("accept", "text/event-stream"),
        Transport::Multipart => {
            post(WATCH).header("accept", "multipart/mixed;boundary=graphql;subscriptionSpec=1.0")
        }
        Transport::Schema => http.get(format!("{}/schema.graphql", app.base)),
        Transport::Socket => return use_websocket(&url, token).await,
    };
    answer(request.header("authorization", format!("Bearer {token}").into_bytes())).await
}

async fn answer(request: RequestBuilder) -> Response {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), comparable_headers(response.headers()));
    let text = timeout(Duration::from_secs(10), response.text()).await.expect("no end").unwrap();
    Response { status, headers, text }
}

/// Returns all headers except the date and the request id.
fn comparable_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let response =
        headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let mut response: Vec<_> = response
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    response.sort();
    response
}

/// Signs in over a WebSocket, queries and subscribes, and returns every message until both
/// operations end.
async fn use_websocket(url: &str, token: &str) -> Response {
    let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
    let protocol = "graphql-transport-ws".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut headers = comparable_headers(response.headers());
    // A digest of a random value from the client.
    headers.retain(|(name, _)| name != "sec-websocket-accept");
    let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } });
    let mut messages = vec![init.to_string()];
    for (id, query) in [("1", QUERY), ("2", CHANGE), ("3", WATCH)] {
        messages.push(
            json!({ "type": "subscribe", "id": id, "payload": { "query": query } }).to_string(),
        );
    }
    for message in messages {
        // The server may have closed the connection already.
        let _ = socket.send(Message::Text(message.into())).await;
    }
    let (mut status, mut response, mut over) = (0, Vec::new(), 0);
    while over < 3 {
        let message = timeout(Duration::from_secs(10), socket.next()).await.expect("no end");
        match message {
            Some(Ok(Message::Text(text))) => {
                over += usize::from(text.contains("\"complete\"") || text.contains("\"error\""));
                response.push(text.to_string());
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                status = frame.code.into();
                response.push(frame.reason.to_string());
                break;
            }
            Some(Ok(_)) => {}
            None | Some(Err(_)) => break,
        }
    }
    // The operations run concurrently, so the order of their responses has no meaning.
    response.sort();
    Response { status, headers, text: response.join("\n") }
}
