//! Every hostile document and body: a clear answer, at once, without a transaction, and nothing of it is repeated at length.

use std::time::Instant;

use reqwest::header::CONTENT_TYPE;

use super::{AT_ONCE, bodies, documents, echo, variables};
use crate::support::{App, Client, Reply};

/// An answer may have so many bytes, and so many characters in a row of what was sent.
const MOST_BYTES: usize = 4 * 1024;
const MOST_ECHO: usize = 130;

async fn send(client: &Client, body: Vec<u8>) -> Reply {
    Reply::of(client.post().header(CONTENT_TYPE, "application/json").body(body)).await
}

#[tokio::test]
async fn every_hostile_document_is_refused_at_once_and_costs_no_transaction() {
    let app = App::start().await;
    let client = app.person("acme-owner");
    client.data("{ __typename }").await;
    let mut times = Vec::new();
    let mut wrong = Vec::new();
    for attack in documents::all().into_iter().chain(variables::all()).chain(bodies::all()) {
        let begun = Instant::now();
        let reply = send(&client, attack.body.clone()).await;
        let took = begun.elapsed();
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
    eprintln!("of {} attacks the slowest: {:?}", times.len(), &times[..8]);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), times.len(), wrong.join("\n"));
    let connections: i64 = app
        .database
        .value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tenantry'")
        .await;
    assert_eq!(connections, 0, "a connection was made for something that was refused");
    assert_eq!(client.data("{ viewer { name } }").await["viewer"]["name"], "Olivia");
}
