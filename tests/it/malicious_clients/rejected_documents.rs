//! Every malicious document and body gets a clear error at once, without a transaction, and the
//! error does not repeat it at length.

use std::time::Instant;

use reqwest::header::CONTENT_TYPE;

use super::{AT_ONCE, bodies, documents, echo, variables};
use crate::support::{App, Client, Reply};

/// The maximum size of a response in bytes, and of a part repeated from the request in characters.
const MOST_BYTES: usize = 4 * 1024;
const MOST_ECHO: usize = 130;

async fn send(client: &Client, body: Vec<u8>) -> Reply {
    Reply::of(client.post().header(CONTENT_TYPE, "application/json").body(body)).await
}

#[tokio::test]
async fn every_malicious_document_is_rejected_at_once_without_a_transaction() {
    let app = App::start().await;
    let client = app.user("acme-owner");
    client.data("{ __typename }").await;
    let mut times = Vec::new();
    let mut wrong = Vec::new();
    for attack in documents::all().into_iter().chain(variables::all()).chain(bodies::all()) {
        let started = Instant::now();
        let reply = send(&client, attack.body.clone()).await;
        let took = started.elapsed();
        let mut codes = reply.codes();
        codes.dedup();
        if (reply.status.as_u16(), codes.as_slice()) != (attack.status, &[attack.code])
            || reply.body.get("data").is_some()
            || took > AT_ONCE
            || reply.text.len() > MOST_BYTES
            || echo(&attack.body, &reply.text) > MOST_ECHO
        {
            let start: String = reply.text.chars().take(400).collect();
            wrong.push(format!(
                "{}: {} {codes:?} in {took:?}, {} bytes, {} of them echoed: {start}",
                attack.name,
                reply.status,
                reply.text.len(),
                echo(&attack.body, &reply.text)
            ));
        }
        times.push((took, attack.name));
        assert_eq!(client.data("{ __typename }").await["__typename"], "Query", "{}", attack.name);
    }
    times.sort_unstable();
    times.reverse();
    eprintln!("the slowest of {} requests: {:?}", times.len(), &times[..8]);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), times.len(), wrong.join("\n"));
    let connections: i64 = app
        .database
        .value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tenantry'")
        .await;
    assert_eq!(connections, 0, "a rejected request opened a connection");
    assert_eq!(client.data("{ viewer { name } }").await["viewer"]["name"], "Olivia");
}

#[tokio::test]
async fn documents_in_the_url_have_the_same_limits() {
    let app = App::start().await;
    let client = app.user("acme-owner");
    let query = ("query", "{ viewer { id } }");
    let deep = format!("{{\"a\":{}", "[".repeat(20_000));
    let bomb = "{ ...f } fragment f on Query { ...f }";
    for (parameters, status, code) in [
        (vec![query, query], 400, "UNSUPPORTED_REQUEST"),
        (vec![query, ("query", "")], 400, "UNSUPPORTED_REQUEST"),
        (vec![query, ("variables", "{}"), ("variables", "{}")], 400, "UNSUPPORTED_REQUEST"),
        (vec![query, ("variables", "{\"a\":1,\"a\":2}")], 400, "UNSUPPORTED_REQUEST"),
        (vec![query, ("variables", &deep)], 400, "UNSUPPORTED_REQUEST"),
        (vec![query, ("variables", "[]")], 400, "UNSUPPORTED_REQUEST"),
        (vec![("query", "\0")], 400, "GRAPHQL_PARSE_FAILED"),
        (vec![("query", bomb)], 400, "GRAPHQL_VALIDATION_FAILED"),
        (vec![("query", "subscription { projectChanged { id } }")], 406, "UNSUPPORTED_REQUEST"),
        (vec![("query", "mutation { __typename }")], 405, "UNSUPPORTED_REQUEST"),
    ] {
        let reply = Reply::of(client.get().query(&parameters)).await;
        reply.assert_refused(status, code);
        assert!(reply.text.len() < 500, "{reply:?}");
    }
    // Longer than the limit of the headers.
    let long = "x".repeat(100_000);
    let sent = client.get().query(&[("query", long)]).send().await;
    assert!(
        sent.is_err()
            || sent.is_ok_and(|response| [414, 431].contains(&response.status().as_u16()))
    );
    assert_eq!(client.data("{ viewer { name } }").await["viewer"]["name"], "Olivia");
}

#[tokio::test]
async fn a_batch_of_the_worst_documents_gets_ten_errors() {
    let app = App::start().await;
    let client = app.user("acme-owner");
    let attacks = documents::all();
    for ten in attacks.chunks(10) {
        let bodies: Vec<_> = ten.iter().map(|attack| attack.body.clone()).collect();
        let batch = [b"[", bodies.join(&b","[..]).as_slice(), b"]"].concat();
        if batch.len() > 1024 * 1024 {
            continue;
        }
        let started = Instant::now();
        let reply = send(&client, batch).await;
        let responses = reply.body.as_array().unwrap();
        let codes =
            responses.iter().map(|answer| answer["errors"][0]["extensions"]["code"].as_str());
        assert!(codes.eq(ten.iter().map(|attack| Some(attack.code))), "{reply:?}");
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(started.elapsed() < 10 * AT_ONCE, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_flood_of_unknown_names_does_not_displace_registered_ones() {
    let app = App::start().await;
    let client = app.user("acme-owner");
    let query = "{ viewer { name } }";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, query.as_bytes());
    let hash = digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let named = |hash: &str| serde_json::json!({ "documentId": hash });
    client.send(&serde_json::json!({ "query": query, "documentId": hash })).await.data();
    for n in 0..2_500 {
        let reply = client.send(&named(&format!("{n:064x}"))).await;
        reply.assert_refused(400, "PERSISTED_QUERY_NOT_FOUND");
    }
    assert_eq!(client.send(&named(&hash)).await.data()["viewer"]["name"], "Olivia");
}
