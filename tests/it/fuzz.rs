//! Random input: bytes, mutated valid requests, cursors, tokens and documents. Each test runs a few
//! cases; `PROPTEST_CASES=100000 cargo test --test it fuzz` is a long run. Failing cases are stored
//! in `fuzz-regressions.txt`.

use std::{fmt::Write, sync::Arc, time::Duration};

use async_graphql::connection::CursorType;
use futures_util::FutureExt;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{FileFailurePersistence, TestRunner},
};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tenantry::{
    admission::Source,
    auth::{Caller, Claims, TrustedIssuer, Verifier},
    clock::Clock,
    graphql::document::GraphqlRequest,
    page::Cursor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
};

use crate::support::{App, app};

/// Runs this number of cases unless the environment sets another.
fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig::default();
    let chosen = std::env::var_os("PROPTEST_CASES").map(|_| config.cases);
    TestRunner::new(ProptestConfig {
        cases: chosen.unwrap_or(cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/it/fuzz-regressions.txt",
        ))),
        source_file: Some(file!()),
        max_shrink_iters: 2_000,
        ..config
    })
}

/// A change of a byte string; positions are in thousandths of its length.
#[derive(Clone, Debug)]
enum Edit {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Delete(usize, usize),
    /// Inserts a part of another byte string.
    Splice(usize, usize, usize),
    Repeat(usize, usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let place = || 0..1_000_usize;
    let interesting = prop_oneof![
        vec(any::<u8>(), 1..4),
        prop::sample::select(
            [
                "{",
                "}",
                "[",
                "\"",
                "\\",
                "\\u0000",
                "\\ud800",
                "\0",
                "\r\n",
                ":",
                ",",
                "-",
                "1e400",
                "null",
                "$",
                "@",
                "...",
                "#",
                "\u{202e}",
                "99999999999999999999",
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
        ),
    ];
    let edit = prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, bits)| Edit::Flip(at, bits)),
        (place(), interesting).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (place(), 1..20_usize).prop_map(|(at, length)| Edit::Delete(at, length)),
        (place(), place(), 1..60_usize)
            .prop_map(|(at, from, length)| Edit::Splice(at, from, length)),
        (place(), 1..30_usize, 1..60_usize)
            .prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
    ];
    vec(edit, 1..5)
}

fn apply<T: AsRef<[u8]>>(edits: &[Edit], to: &T, other: &T) -> Vec<u8> {
    let mut bytes = to.as_ref().to_vec();
    let other = other.as_ref();
    for edit in edits {
        let place = |thousandths: &usize, of: usize| thousandths * of / 1_000;
        let length = bytes.len();
        match edit {
            Edit::Flip(at, bits) => {
                if let Some(byte) = bytes.get_mut(place(at, length)) {
                    *byte ^= bits;
                }
            }
            Edit::Insert(at, what) => {
                let at = place(at, length);
                bytes.splice(at..at, what.iter().copied());
            }
            Edit::Delete(at, count) => {
                let at = place(at, length);
                bytes.drain(at..(at + count).min(length));
            }
            Edit::Splice(at, from, count) => {
                let (at, from) = (place(at, length), place(from, other.len()));
                bytes.splice(at..at, other[from..(from + count).min(other.len())].iter().copied());
            }
            Edit::Repeat(at, count, times) => {
                let at = place(at, length);
                let part = bytes[at..(at + count).min(length)].repeat(*times);
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

const DOCUMENTS: [&str; 8] = [
    "{ viewer { id name memberships { slug role } } organization { name plan { name } viewerPermissions } }",
    "query Q($n: Int = 3, $after: String) { organization { projects(first: $n, after: $after) { totalCount edges { cursor node { id name createdBy { name } } } pageInfo { hasNextPage endCursor } } } }",
    "query ($filter: AuditLogFilter) { organization { auditLogs(filter: $filter, last: 2) { nodes { action metadata createdAt } } } }",
    "{ ...f node(id: \"00000000-0000-4000-8000-00000000000a\") { __typename ... on Organization @include(if: true) { slug } } } fragment f on Query { plans { key name } a: errorCodes }",
    "mutation { createProject(input: { name: \"a \\u00e9 b\", description: \"\"\"c \\\"\"\" d\"\"\" }) { project { id name } } query { viewer { name } } }",
    "mutation ($i: UpdateOrganizationInput!) { updateOrganization(input: $i) { organization { name } } }",
    "query A { __schema { queryType { name fields { name args { name type { kind ofType { name } } } } } } } query B { __type(name: \"Role\") { enumValues { name } } }",
    "subscription { projectChanged { id project { name } } }",
];

fn bodies() -> Vec<Vec<u8>> {
    let variables = json!({ "n": 2, "after": null, "filter": { "action": "project.created", "since": "2026-01-01T00:00:00Z" }, "i": { "name": "Acme" } });
    let mut bodies: Vec<_> = DOCUMENTS
        .iter()
        .map(|query| json!({ "query": query, "variables": variables, "operationName": null }))
        .collect();
    bodies.push(json!([bodies[0], bodies[1]]));
    bodies.push(json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": "0".repeat(64) } } }));
    bodies.iter().map(|body| body.to_string().into_bytes()).collect()
}

/// Asserts that a body is GraphQL over HTTP, one response or several: errors, data or both, and no
/// server fault.
fn check_response(status: u16, text: &str) -> Result<(), TestCaseError> {
    prop_assert!(status < 500, "{} {}", status, text);
    let body: Value = serde_json::from_str(text)
        .map_err(|error| TestCaseError::fail(format!("{status} {text}: {error}")))?;
    let all = body.as_array().cloned().unwrap_or_else(|| vec![body]);
    for answer in all {
        prop_assert!(answer.get("errors").is_some() || answer.get("data").is_some(), "{}", text);
        for error in answer["errors"].as_array().into_iter().flatten() {
            let code = error["extensions"]["code"].as_str().unwrap_or_default();
            prop_assert!(!["", "INTERNAL", "TIMEOUT", "UNAVAILABLE"].contains(&code), "{}", text);
        }
    }
    Ok(())
}

fn start() -> (Runtime, Arc<App>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let app = Arc::new(runtime.block_on(App::start()));
    (runtime, app)
}

#[test]
fn every_body_gets_a_graphql_response() {
    let (runtime, app) = start();
    let owner = app.user("acme-owner");
    let bodies = bodies();
    let index = || any::<prop::sample::Index>();
    let body = prop_oneof![
        1 => vec(any::<u8>(), 0..200),
        9 => (index(), index(), edits()).prop_map(move |(one, other, edits)| {
            apply(&edits, one.get(&bodies), other.get(&bodies))
        }),
    ];
    let outcome = runner(250).run(&body, |body| {
        runtime.block_on(async {
            let request = owner.post().header(CONTENT_TYPE, "application/json").body(body);
            let response =
                request.send().await.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let status = response.status().as_u16();
            check_response(status, &response.text().await.unwrap())
        })
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    runtime.block_on(owner.data("{ viewer { id } }"));
}

#[test]
fn no_bytes_on_a_connection_crash_the_server() {
    let (runtime, app) = start();
    let owner = app.user("acme-owner");
    let token = app::token("acme-owner");
    let requests: Vec<_> = bodies()
        .into_iter()
        .flat_map(|body| {
            let head = format!("Host: x\r\nAuthorization: Bearer {token}\r\nAccept: application/json, text/event-stream;q=0.5\r\nIdempotency-Key: a-key\r\nX-Forwarded-For: 1.1.1.1\r\nConnection: close\r\n");
            let length = body.len();
            let plain = format!("POST /org/acme/graphql HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
            let chunked = format!("POST /graphql HTTP/1.1\r\n{head}Content-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n");
            let query = format!("GET /org/acme/graphql?query=%7Bviewer%7Bid%7D%7D&variables=%7B%7D HTTP/1.1\r\n{head}\r\n");
            let socket = format!("GET /graphql HTTP/1.1\r\n{head}Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n");
            let bytes = |head: String, tail: &[u8]| [head.as_bytes(), &body, tail].concat();
            [bytes(plain, b""), bytes(chunked, b"\r\n0\r\n\r\n"), query.into_bytes(), bytes(socket, b"\x81\x80\0\0\0\0")]
        })
        .collect();
    let address = app.base.trim_start_matches("http://").to_owned();
    let index = || any::<prop::sample::Index>();
    let bytes = (index(), index(), edits())
        .prop_map(|(one, other, edits)| apply(&edits, one.get(&requests), other.get(&requests)));
    let outcome = runner(250).run(&bytes, |bytes| {
        runtime.block_on(async {
            let mut socket = TcpStream::connect(&address).await.unwrap();
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
            let mut received = Vec::new();
            let reading =
                tokio::time::timeout(Duration::from_secs(15), socket.read_to_end(&mut received));
            prop_assert!(reading.await.is_ok(), "the connection stays open");
            let received = String::from_utf8_lossy(&received).into_owned();
            prop_assert!(received.is_empty() || received.starts_with("HTTP/1."), "{}", received);
            prop_assert!(
                !received.starts_with("HTTP/1.1 5") || received.starts_with("HTTP/1.1 505"),
                "{}",
                received
            );
            prop_assert!(!received.contains("\"code\":\"INTERNAL\""), "{}", received);
            Ok(())
        })
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    runtime.block_on(owner.data("{ viewer { id } }"));
}

#[test]
fn parsed_cursors_are_written_the_same() {
    let text = prop_oneof![
        any::<String>(),
        "[A-Za-z0-9_-]{32}",
        "[A-Za-z0-9_=+/-]{30,34}",
        "[A-D]A{6,9}[A-Za-z0-9_-]{22,24}"
    ];
    let read = std::cell::Cell::new(0);
    let outcome = runner(3_000).run(&text, |text| {
        if let Ok(cursor) = Cursor::decode_cursor(&text) {
            read.set(read.get() + 1);
            prop_assert_eq!(cursor.encode_cursor(), text);
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    assert!(read.get() > 0, "no case was a cursor");
}

#[test]
fn a_token_with_a_changed_signed_part_is_rejected() {
    let issuer = TrustedIssuer::with_secrets(&[app::SECRET], Claims::default());
    let verifier = Verifier::new(vec![issuer], Clock::system());
    let verify = |token: &str| -> Option<Arc<Caller>> {
        verifier.verify(token).now_or_never().unwrap().ok()
    };
    let signed = |token: &str| token.rsplit_once('.').map(|(signed, _)| signed.to_owned());
    let tokens = ["acme-owner", "globex-owner", "nobody"].map(app::token);
    assert!(tokens.iter().all(|token| verify(token).is_some()));
    let index = || any::<prop::sample::Index>();
    let outcome = runner(3_000).run(&(index(), index(), edits()), |(one, other, edits)| {
        let bytes = apply(&edits, one.get(&tokens), other.get(&tokens));
        let text = String::from_utf8_lossy(&bytes);
        if verify(&text).is_some() {
            let good = tokens.iter().any(|token| signed(token) == signed(&text));
            prop_assert!(good, "{} is accepted", text);
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}

/// Generates documents from common tokens, some of them in a sensible order.
#[expect(clippy::too_many_lines, reason = "tables of words")]
fn documents() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ":",
        "$",
        "@",
        "!",
        "=",
        "|",
        "&",
        "...",
        "on",
        "query",
        "mutation",
        "subscription",
        "fragment",
        "viewer",
        "organization",
        "projects",
        "nodes",
        "node",
        "id",
        "name",
        "first",
        "f",
        "$n",
        "Int",
        "ID!",
        "Query",
        "Organization",
        "__typename",
        "__schema",
        "types",
        "true",
        "null",
        "-0",
        "1",
        "1e9",
        "2147483648",
        "\"\"",
        "\"a\"",
        "\"\"\"b\"\"\"",
        "\"\\ud83d\\ude00\"",
        "#c\n",
        ",",
        "\r",
        "\u{feff}",
        "@skip(if: true)",
        "@include(if: $n)",
    ]);
    let soup = vec(word, 0..60).prop_map(|words| words.join(" "));
    let leaf = prop::sample::select(vec![
        "id",
        "name",
        "__typename",
        "a: id",
        "name @skip(if: false)",
        "...f",
        "slug",
        "createdAt",
        "nothing",
        "... { id }",
    ])
    .prop_map(str::to_owned);
    let selection = leaf.prop_recursive(6, 60, 5, |inner| {
        let heads = prop::sample::select(vec![
            "organization",
            "viewer",
            "projects(first: 2)",
            "projects(last: 101)",
            "projects(first: -1, after: \"x\")",
            "nodes",
            "edges",
            "node",
            "createdBy",
            "members",
            "user",
            "node(id: \"x\")",
            "nodes(ids: [\"x\", \"y\"])",
            "... on Organization",
            "... on Project @include(if: true)",
            "auditLogs(filter: { since: \"x\" })",
            "auditLogs(filter: null)",
            "p: projects(first: $n)",
            "plans",
            "entitlements",
            "billing",
            "pageInfo",
        ]);
        (heads, vec(inner, 1..5))
            .prop_map(|(head, inside)| format!("{head} {{ {} }}", inside.join(" ")))
    });
    let sensible = vec(selection, 1..4).prop_map(|selections| {
        let mut document = String::new();
        let all = selections.join(" ");
        let variables = if all.contains("$n") { "query ($n: Int = 2) " } else { "" };
        let _ = write!(document, "{variables}{{ {all} }}");
        if all.contains("...f") {
            document.push_str(" fragment f on Query { viewer { id } }");
        }
        document
    });
    let index = || any::<prop::sample::Index>();
    let changed = (index(), index(), edits()).prop_map(move |(one, other, edits)| {
        String::from_utf8_lossy(&apply(&edits, one.get(&DOCUMENTS), other.get(&DOCUMENTS)))
            .into_owned()
    });
    prop_oneof![soup, sensible, changed]
}

#[test]
fn every_document_is_parsed_or_rejected_and_parsed_ones_get_a_response() {
    let (runtime, app) = start();
    let owner = app.user("acme-owner");
    let outcome = runner(600).run(&documents(), |query| {
        runtime.block_on(async {
            let request = GraphqlRequest { query: query.clone(), ..GraphqlRequest::default() };
            match app.service.prepare(request, Source::default()).await {
                Ok(_) => {
                    let reply = owner.query(&query).await;
                    // A subscription without a stream is rejected.
                    check_response(reply.status.as_u16(), &reply.text)
                }
                Err(errors) => {
                    prop_assert!((1..=10).contains(&errors.len()), "{:?}", errors);
                    let received = json!({ "errors": errors }).to_string();
                    prop_assert!(received.len() < 10_000, "{} bytes", received.len());
                    check_response(400, &received)
                }
            }
        })
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}
