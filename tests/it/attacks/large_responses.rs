//! Responses that are many times larger than their requests.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    malicious_clients::memory::{MIB, memory, serve},
    support::{App, AppSettings, Client, database::Database},
};

const ACME: &str = "00000000-0000-4000-8000-00000000000a";

/// The cost limit of a request, which is less than the attacks ask for.
const BYTES: u64 = 256 * 1024;

async fn app() -> App {
    let mut settings = AppSettings::default();
    settings.cost.bytes = BYTES;
    App::with(settings).await
}

/// Creates a project with a description of the maximum length, also in bytes.
async fn verbose(client: &Client) -> String {
    let create = "mutation ($d: String) { createProject(input: { name: \"Verbose\", description: $d }) { project { id } } }";
    let description = "\u{20000}".repeat(2_000);
    let data = client.query_with(create, json!({ "d": description })).await.data();
    data["createProject"]["project"]["id"].as_str().unwrap().to_owned()
}

/// Adds audit entries as large as some were before the server cut long texts.
async fn large_entries(database: &Database, count: usize) {
    database
        .execute(&format!(
            "INSERT INTO audit.audit_logs (organization_id, action, resource_type, metadata)
             SELECT '{ACME}', 'project.updated', 'project',
                    jsonb_build_object('old_description', repeat('\u{20000}', 2000), 'description', repeat('\u{20001}', 2000))
             FROM generate_series(1, {count})"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_stops_at_the_size_limit() {
    let app = app().await;
    large_entries(&app.database, 100).await;
    let owner = app.user("acme-owner");
    let page = |size: usize| {
        format!("{{ organization {{ auditLogs(first: {size}) {{ nodes {{ metadata }} }} }} }}")
    };
    owner.data(&page(5)).await;
    owner.query(&page(100)).await.assert_refused(400, "QUERY_TOO_COMPLEX");
    // Rows count even when their long texts are not selected.
    let ids = "{ organization { auditLogs(first: 100) { nodes { id } } } }";
    owner.query(ids).await.assert_refused(400, "QUERY_TOO_COMPLEX");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_text_counts_each_time_it_is_returned() {
    let app = app().await;
    let owner = app.user("acme-owner");
    let id = verbose(&owner).await;
    let nodes = |times: usize| {
        let ids = vec![format!("\"{id}\""); times].join(" ");
        format!("{{ nodes(ids: [{ids}]) {{ ... on Project {{ description }} }} }}")
    };
    owner.data(&nodes(5)).await;
    owner.query(&nodes(100)).await.assert_refused(400, "QUERY_TOO_COMPLEX");
    let aliases = (0..30).map(|n| format!("a{n}: description ")).collect::<Vec<_>>().concat();
    let repeated =
        format!("{{ nodes(ids: [\"{id}\" \"{id}\"]) {{ ... on Project {{ {aliases} }} }} }}");
    owner.query(&repeated).await.assert_refused(400, "QUERY_TOO_COMPLEX");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_with_a_response_over_the_limit_writes_nothing() {
    let app = app().await;
    large_entries(&app.database, 100).await;
    let owner = app.user("acme-owner");
    owner.data("{ viewer { id } }").await;
    let before = app.database.fingerprint().await;
    let query = "mutation { createProject(input: { name: \"Never\" }) { project { id } }
        query { organization { auditLogs(first: 100) { nodes { metadata } } } } }";
    owner.query(query).await.assert_refused(400, "QUERY_TOO_COMPLEX");
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operations_of_a_batch_share_one_size_limit() {
    let app = app().await;
    let owner = app.user("acme-owner");
    let id = verbose(&owner).await;
    let ids = vec![format!("\"{id}\""); 10].join(" ");
    let query = format!("{{ nodes(ids: [{ids}]) {{ ... on Project {{ description }} }} }}");
    owner.data(&query).await;
    let create = "mutation { createProject(input: { name: \"Late\" }) { project { id } } }";
    let mut batch = vec![json!({ "query": query }); 9];
    batch.push(json!({ "query": create }));
    let before = app.database.fingerprint().await;
    let reply = owner.send(&Value::Array(batch)).await;
    let responses = reply.body.as_array().unwrap();
    assert!(responses[0]["data"].is_object(), "{:?}", responses[0]);
    for late in &responses[3..] {
        assert_eq!(late["errors"][0]["extensions"]["code"], "QUERY_TOO_COMPLEX", "{late}");
        assert!(late.get("data").is_none(), "{late}");
    }
    assert!(reply.text.len() as u64 <= BYTES, "{} bytes", reply.text.len());
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_keeps_the_beginning_and_the_digest_of_a_long_text() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let id = verbose(&owner).await;
    let update = "mutation ($id: ID!, $d: String) {
        updateProject(input: { id: $id, description: $d }) { project { id } } }";
    let short = "é".repeat(200);
    owner.query_with(update, json!({ "id": id, "d": short })).await.data();
    let entry = "{ organization { auditLogs(first: 1) { nodes { action metadata } } } }";
    let data = owner.data(entry).await;
    let entry = &data["organization"]["auditLogs"]["nodes"][0];
    assert_eq!(entry["action"], "project.updated");
    let long = "\u{20000}".repeat(2_000);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, long.as_bytes());
    let digest =
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let expected = json!({
        "name": "Verbose",
        "description": short,
        "old_description": "\u{20000}".repeat(200),
        "old_description_sha256": digest,
    });
    assert_eq!(entry["metadata"], expected);
}

/// The memory for each concurrently executed request: its rows, the values built from them, and the
/// text of the response.
const MOST_OF_A_REQUEST: u64 = 40 * MIB;

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_responses_of_the_largest_size_do_not_exhaust_the_memory() {
    let database = Database::create().await;
    large_entries(&database, 300).await;
    let (server, client) = serve(&database).await;
    let process = server.child.id();
    client.data("{ viewer { id } }").await;
    let before = memory(process).0;
    let aliases = (0..30)
        .map(|n| format!("a{n}: auditLogs(first: 100) {{ nodes {{ metadata }} }} "))
        .collect::<Vec<_>>()
        .concat();
    let refused = json!({ "query": format!("{{ organization {{ {aliases} }} }}") });
    // The largest page within the limit.
    let answered =
        json!({ "query": "{ organization { auditLogs(first: 100) { nodes { metadata } } } }" });
    let batches = [Value::Array(vec![refused; 10]), Value::Array(vec![answered; 10])];
    let batches = Arc::new(batches);
    let clients = 16;
    let sending = (0..clients).map(|number| {
        let (client, batches) = (client.clone(), Arc::clone(&batches));
        tokio::spawn(async move {
            let reply = client.send(&batches[number % 2]).await;
            (reply.status, reply.text.len() as u64)
        })
    });
    let mut largest = 0;
    for sent in join_all(sending).await {
        let (status, length) = sent.unwrap();
        // A batch whose operations all fail has the status of a rejection.
        assert!([200, 400].contains(&status.as_u16()), "{status}");
        largest = largest.max(length);
    }
    let (after, peak) = memory(process);
    eprintln!(
        "memory with {clients} of the largest responses: {} MiB before, {} MiB at the peak, {} MiB after; the largest had {} KiB",
        before / MIB,
        peak / MIB,
        after / MIB,
        largest / 1024
    );
    assert!(largest <= 8 * MIB, "{largest} bytes");
    assert!(peak < before + clients as u64 * MOST_OF_A_REQUEST, "{} MiB", peak / MIB);
}
