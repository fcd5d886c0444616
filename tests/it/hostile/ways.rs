//! All ways to the API, each tried as somebody: what became of it, without what differs between any
//! two requests.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::{RequestBuilder, header::HeaderMap};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::support::App;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Post,
    Change,
    Get,
    Events,
    Socket,
    Schema,
}

pub const ALL: [Way; 6] = [Way::Post, Way::Change, Way::Get, Way::Events, Way::Socket, Way::Schema];

/// What somebody was told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// Of the HTTP answer, or the code with which a WebSocket was closed.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

const QUERY: &str = "{ organization { id name } }";
const CHANGE: &str = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
const WATCH: &str = "subscription { projectChanged { id } }";

/// Asks as the holder of this token; `path` is what stands before `/graphql`.
pub async fn ask(http: &reqwest::Client, app: &App, way: Way, path: &str, token: &str) -> Told {
    let url = format!("{}{path}/graphql", app.base);
    let post = |query: &str| http.post(&url).json(&json!({ "query": query }));
    let modern = "application/graphql-response+json";
    let request = match way {
        Way::Post => post(QUERY).header("accept", modern),
        Way::Change => post(CHANGE).header("accept", modern),
        Way::Get => http.get(&url).query(&[("query", QUERY)]).header("accept", modern),
        Way::Events => post(WATCH).header("accept", "text/event-stream"),
        Way::Schema => http.get(format!("{}/schema.graphql", app.base)),
        Way::Socket => return converse(&url, token).await,
    };
    answer(request.header("authorization", format!("Bearer {token}").into_bytes())).await
}

async fn answer(request: RequestBuilder) -> Told {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), told_headers(response.headers()));
    let text = timeout(Duration::from_secs(10), response.text()).await.expect("no end").unwrap();
    Told { status, headers, text }
}

/// All but the date and the request's id.
fn told_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let told =
        headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let mut told: Vec<_> = told
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    told.sort();
    told
}

/// Signs in over a WebSocket, asks and subscribes, and tells all that comes until both are over.
async fn converse(url: &str, token: &str) -> Told {
    let mut request = url.replacen("http", "ws", 1).into_client_request().unwrap();
    let protocol = "graphql-transport-ws".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut headers = told_headers(response.headers());
    // A digest of what the client chose by chance.
    headers.retain(|(name, _)| name != "sec-websocket-accept");
    let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } });
    let mut messages = vec![init.to_string()];
    for (id, query) in [("1", QUERY), ("2", CHANGE), ("3", WATCH)] {
        messages.push(
            json!({ "type": "subscribe", "id": id, "payload": { "query": query } }).to_string(),
        );
    }
    for message in messages {
        // The server may have closed already.
        let _ = socket.send(Message::Text(message.into())).await;
    }
    let (mut status, mut told, mut over) = (0, Vec::new(), 0);
    while over < 3 {
        let message = timeout(Duration::from_secs(10), socket.next()).await.expect("no end");
        match message {
            Some(Ok(Message::Text(text))) => {
                over += usize::from(text.contains("\"complete\"") || text.contains("\"error\""));
                told.push(text.to_string());
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                status = frame.code.into();
                told.push(frame.reason.to_string());
                break;
            }
            Some(Ok(_)) => {}
            None | Some(Err(_)) => break,
        }
    }
    // Operations run at the same time: which is answered first says nothing.
    told.sort();
    Told { status, headers, text: told.join("\n") }
}
