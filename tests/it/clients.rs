//! What common clients and tools send: introspection, literals and numbers in all their forms, and
//! the ways in which they write headers and bodies.

use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::support::{App, HANG, Reply, app};

#[tokio::test]
async fn the_introspection_of_common_tools_is_answered() {
    let Some(scripts) = crate::support::node::packages().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    let app = App::start().await;
    let output = tokio::process::Command::new("node")
        .arg("introspection.mjs")
        .args([app.user("acme-viewer").url, app::token("acme-viewer")])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql"))
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("tada"))
        .current_dir(scripts)
        .output();
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_small_introspection_never_gets_a_large_response() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let leaf = "name description";
    let nested = format!("fields {{ {leaf} type {{ ofType {{ fields {{ {leaf} }} }} }} }}");
    let (mut largest, mut refused) = (0, false);
    for repeated in 1..30 {
        let schema = |n| format!("a{n}: __schema {{ types {{ {nested} }} }}");
        let aliases: Vec<_> = (0..repeated).map(schema).collect();
        let reply = owner.query(&format!("{{ {} }}", aliases.join(" "))).await;
        if reply.status != 200 {
            reply.assert_refused(400, "QUERY_TOO_COMPLEX");
            assert!(reply.text.contains("introspects more than 160000 fields"), "{reply:?}");
            refused = true;
            break;
        }
        largest = reply.text.len();
    }
    assert!(refused && (100_000..16_000_000).contains(&largest), "{largest} bytes");
}

#[tokio::test]
async fn a_name_may_be_written_with_any_escape() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    for (literal, name) in [
        (r#""Rocket \uD83D\uDE80""#, "Rocket 🚀"),
        (r#""Rocket \u{1F680}""#, "Rocket 🚀"),
        (r#""Rocket 🚀""#, "Rocket 🚀"),
        (r#""""Rocket \"""🚀\""" """"#, "Rocket \"\"\"🚀\"\"\""),
        (r#""Rocket \/ \u00e9 \"\u{71}\"""#, "Rocket / é \"q\""),
    ] {
        let query = format!(
            "mutation {{ createProject(input: {{ name: {literal} }}) {{ project {{ name }} }} }}"
        );
        let data = owner.query(&query).await.data();
        assert_eq!(data["createProject"]["project"]["name"], name, "{literal}");
    }
    let half = r#"mutation { createProject(input: { name: "\uD83D" }) { project { name } } }"#;
    let refused = owner.query(half).await;
    refused.assert_refused(400, "GRAPHQL_PARSE_FAILED");
    assert_eq!(refused.body["errors"][0]["locations"], json!([{ "line": 1, "column": 41 }]));
}

#[tokio::test]
async fn a_number_with_a_decimal_point_may_be_an_integer() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let query =
        "query ($n: Int, $id: ID!, $ids: [ID!]!) { node(id: $id) { id } nodes(ids: $ids) { id }
        organization { projects(first: $n) { nodes { id } } } }";
    let send = async |variables: &str| {
        let variables: Value = serde_json::from_str(variables).unwrap();
        owner.query_with(query, variables).await
    };
    for number in ["3", "3.0", "3e0", "30e-1", "0.3e1"] {
        let variables = format!(r#"{{ "n": {number}, "id": 7.0, "ids": [7.0, 8e0] }}"#);
        let data = send(&variables).await.data();
        assert_eq!(data["organization"]["projects"]["nodes"].as_array().unwrap().len(), 3);
        assert_eq!(data["nodes"], json!([null, null]));
    }
    for number in ["3.5", "2147483648", "2147483648.0", "1e30", "\"3\""] {
        let variables = format!(r#"{{ "n": {number}, "id": "x", "ids": [] }}"#);
        send(&variables).await.assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    }
    // In the URL as well.
    let request = owner.get().query(&[
        ("query", "query ($n: Int) { organization { projects(first: $n) { nodes { id } } } }"),
        ("variables", r#"{ "n": 2.0 }"#),
    ]);
    let data = Reply::of(request).await.data();
    assert_eq!(data["organization"]["projects"]["nodes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn one_bad_operation_of_a_batch_does_not_lose_the_results_of_the_others() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let create = |name: &str| {
        json!({ "query": format!(
            "mutation {{ createProject(input: {{ name: \"{name}\" }}) {{ project {{ name }} }} }}"
        ) })
    };
    let bad = [
        (json!({ "query": "subscription { projectChanged { id } }" }), "UNSUPPORTED_REQUEST"),
        (json!(7), "UNSUPPORTED_REQUEST"),
        (json!(null), "UNSUPPORTED_REQUEST"),
        (json!([create("nested")]), "UNSUPPORTED_REQUEST"),
        (json!({}), "UNSUPPORTED_REQUEST"),
        (json!({ "query": "{ __typename }", "variables": [] }), "UNSUPPORTED_REQUEST"),
        (json!({ "documentId": "none" }), "PERSISTED_QUERY_NOT_FOUND"),
        (json!({ "query": "{ nothing }" }), "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{" }), "GRAPHQL_PARSE_FAILED"),
    ];
    for (number, (bad, code)) in bad.iter().enumerate() {
        let (before, after) = (format!("before {number}"), format!("after {number}"));
        let batch = json!([create(&before), bad, create(&after)]);
        for accept in ["application/json", "application/graphql-response+json"] {
            let request = reqwest::Client::new().post(&owner.url).header(ACCEPT, accept);
            let request = request.bearer_auth(app::token("acme-owner")).json(&batch);
            let reply = Reply::of(request).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let project = |index: usize| {
                reply.body[index]["data"]["createProject"]["project"]["name"].clone()
            };
            assert_eq!((project(0), project(2)), (json!(before), json!(after)), "{bad}");
            assert_eq!(reply.body[1]["errors"][0]["extensions"]["code"], *code, "{bad}");
            assert!(reply.body[1].get("data").is_none(), "{bad}");
        }
    }
}

#[tokio::test]
async fn headers_are_read_as_their_specification_allows() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let send = async |accept: &str, content_type: &str| {
        let request = reqwest::Client::new().post(&owner.url).header(ACCEPT, accept);
        let request = request.header(CONTENT_TYPE, content_type);
        let body = json!({ "query": "{ __typename }" }).to_string();
        Reply::of(request.bearer_auth(app::token("acme-owner")).body(body)).await
    };
    for accept in [
        "application/json;",
        "*/*;",
        "application/json; ;q=0.9",
        "application/json;v",
        "",
        "application/json; charset=utf8",
        "application/json;profile=\"a,b\"",
        "nonsense",
    ] {
        let reply = send(accept, "application/json").await;
        assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8", "{accept}");
        assert_eq!(reply.data(), json!({ "__typename": "Query" }), "{accept}");
    }
    for content_type in [
        "application/json; charset=utf8",
        "application/json;charset=\"UTF-8\"",
        "Application/JSON;",
        "application/json; ;v=1",
    ] {
        send("*/*", content_type).await.data();
    }
    for (accept, content_type, status) in [
        ("text/html", "application/json", 406),
        ("application/json;q=0", "application/json", 406),
        ("*/*", "application/json;charset=latin1", 415),
        ("*/*", "text/plain", 415),
    ] {
        let reply = send(accept, content_type).await;
        reply.assert_refused(status, "UNSUPPORTED_REQUEST");
        assert_eq!(reply.headers["vary"], "accept, authorization", "{accept}");
    }
    let options = reqwest::Client::new().request(reqwest::Method::OPTIONS, &owner.url);
    let options = options.send().await.unwrap();
    assert_eq!(options.status(), 204);
    assert_eq!(options.headers()["vary"], "accept, authorization");
}

#[tokio::test]
async fn a_body_may_begin_with_a_byte_order_mark_and_is_not_compressed() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let post = |body: &str| {
        owner.post().header(CONTENT_TYPE, "application/json").body(format!("\u{feff}{body}"))
    };
    Reply::of(post(r#"{"query":"{__typename}"}"#)).await.data();
    Reply::of(post("{\"query\":\"\u{feff}{__typename}\"}")).await.data();
    let variables = "\u{feff}{}";
    let request = owner.get().query(&[("query", "{ __typename }"), ("variables", variables)]);
    Reply::of(request).await.data();
    for coding in ["gzip", "br", "identity, gzip", "deflate"] {
        let request = post(r#"{"query":"{__typename}"}"#).header(CONTENT_ENCODING, coding);
        let reply = Reply::of(request).await;
        reply.assert_refused(415, "UNSUPPORTED_REQUEST");
        assert_eq!(reply.headers["accept-encoding"], "identity", "{coding}");
        assert!(reply.text.contains("Content-Encoding"), "{}", reply.text);
    }
    for coding in ["identity", "Identity, identity", ""] {
        let request = post(r#"{"query":"{__typename}"}"#).header(CONTENT_ENCODING, coding);
        Reply::of(request).await.data();
    }
}

#[tokio::test]
async fn a_client_that_offers_another_protocol_gets_a_response() {
    let app = App::start().await;
    let address = app.base.trim_start_matches("http://");
    let token = app::token("acme-owner");
    let body = r#"{"query":"{__typename}"}"#;
    // Java's client and `curl --http2` offer HTTP/2 in this way.
    for upgrade in ["h2c", "TLS/1.2, HTTP/2.0"] {
        for (request, body) in [("GET /graphql?query={__typename}", ""), ("POST /graphql", body)] {
            let request = format!(
                "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
                 Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nAccept: */*\r\n\
                 Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            let reading = socket.read_to_string(&mut response);
            tokio::time::timeout(HANG, reading).await.unwrap().unwrap();
            assert!(response.starts_with("HTTP/1.1 200 "), "{upgrade}: {response}");
            assert!(response.ends_with(r#"{"data":{"__typename":"Query"}}"#), "{response}");
        }
    }
}

#[tokio::test]
async fn a_time_is_read_in_every_form_of_the_standard_or_the_error_shows_one() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let query = "query ($at: DateTime) { organization {
        auditLogs(filter: { since: $at }) { nodes { id } } usage(feature: \"exports\", to: $at) { used } } }";
    for time in [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00:00.123456789+05:45",
        "2026-01-31T12:00:00-00:00",
        "2016-12-31T23:59:60Z",
        "0001-01-01T00:00:00Z",
    ] {
        owner.query_with(query, json!({ "at": time })).await.data();
    }
    for time in [
        json!("2026-01-31"),
        json!("2026-01-31T12:00:00"),
        json!("2026-01-31T12:00Z"),
        json!("2026-01-31T24:00:00Z"),
        json!("2026-13-01T00:00:00Z"),
        json!("20260131T120000Z"),
        json!("1769860800"),
        json!("yesterday"),
        json!(""),
    ] {
        let reply = owner.query_with(query, json!({ "at": time })).await;
        assert_eq!(reply.codes()[0], "BAD_USER_INPUT", "{time}: {reply:?}");
        assert!(reply.text.contains("must be a time such as 2026-01-31T12:00:00Z"), "{reply:?}");
    }
}

#[tokio::test]
async fn every_refusal_for_its_cost_names_a_place_in_the_document() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let list = |n| format!("p{n}: projects(first: $n) {{ nodes {{ id name description }} }}");
    let lists = (0..28).map(list).collect::<Vec<_>>().join(" ");
    let costly = format!("\n  query ($n: Int) {{ organization {{ {lists} }} }}");
    owner.query_with(&costly, json!({ "n": 1 })).await.data();
    let unknown = owner.query_with(&format!("{costly} "), json!({ "n": 100 })).await;
    let known = owner.query_with(&costly, json!({ "n": 100 })).await;
    for reply in [unknown, known] {
        reply.assert_refused(400, "QUERY_TOO_COMPLEX");
        assert_eq!(reply.body["errors"][0]["locations"], json!([{ "line": 2, "column": 3 }]));
    }
    let deep = (0..13).fold("name".to_owned(), |inner, _| format!("viewer {{ {inner} }}"));
    let reply = owner.query(&format!("{{\n{deep} }}")).await;
    reply.assert_refused(400, "QUERY_TOO_COMPLEX");
    assert_eq!(reply.body["errors"][0]["locations"], json!([{ "line": 2, "column": 118 }]));
}

async fn open_websocket(app: &App) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let url = app.user("acme-owner").url.replacen("http", "ws", 1);
    let mut request = url.into_client_request().unwrap();
    let protocol = "graphql-transport-ws".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_closed_by_both_sides() {
    let app = App::start().await;
    // The client begins: the server replies with the same code.
    let mut socket = open_websocket(&app).await;
    socket.close(None).await.unwrap();
    let reply = tokio::time::timeout(HANG, socket.next()).await.unwrap();
    assert!(matches!(reply, Some(Ok(Message::Close(_)))), "{reply:?}");
    assert!(tokio::time::timeout(HANG, socket.next()).await.unwrap().is_none());
    // The server begins: the connection ends when the client has replied.
    let mut socket = open_websocket(&app).await;
    for _ in 0..200 {
        socket.feed(Message::Text("nonsense".into())).await.unwrap();
    }
    socket.flush().await.unwrap();
    let closed = tokio::time::timeout(HANG, socket.next()).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = closed else { panic!("{closed:?}") };
    assert_eq!(u16::from(frame.code), 4400);
    assert!(tokio::time::timeout(HANG, socket.next()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ignores_the_close_is_disconnected() {
    const MESSAGES: usize = 1_000;
    let app = App::start().await;
    let mut socket = open_websocket(&app).await;
    let message = Message::Text("x".repeat(64 * 1024).into());
    let mut sent = 0;
    while sent < MESSAGES && socket.send(message.clone()).await.is_ok() {
        sent += 1;
    }
    assert!(sent < MESSAGES, "the server has read {sent} messages");
}
