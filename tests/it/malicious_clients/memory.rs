//! The memory of the server process while many clients send the largest requests, and after they
//! have filled its caches.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::{bodies, documents, variables};
use crate::{
    command_line::free_port,
    support::{
        Client, HANG, app,
        database::Database,
        process::{Running, tenantry},
    },
};

const CLIENTS: usize = 200;
pub const MIB: u64 = 1024 * 1024;

/// The memory for each concurrent client: its body of one mebibyte as it arrives, in a buffer that
/// may be twice as large, as JSON and as a document; and 20,000 values of variables while they wait
/// for a permit.
const MOST_OF_A_CLIENT: u64 = 6 * MIB;

/// The maximum size of the caches of operations and of persisted queries.
const MOST_REMEMBERED: u64 = 256 * MIB;

/// Returns the memory of a process in bytes: now, and at its peak.
pub fn memory(process: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

pub async fn serve(database: &Database) -> (Running, Client) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = tenantry();
    command
        .arg("serve")
        .env("DATABASE_URL", database.url("tenantry_app"))
        .env("JWT_SECRET", app::SECRET)
        .env("SECRET_KEY", app::SECRET)
        .env("LISTEN_ADDR", &address)
        // Here the clients share the processors with the server.
        .env("HEADER_TIMEOUT", "300")
        .env("RUST_LOG", "off")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let running = Running { child: command.spawn().unwrap(), stdout: String::new() };
    let started = Instant::now();
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        assert!(started.elapsed() < HANG, "it does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let url = format!("http://{address}/org/acme/graphql");
    (running, Client::new(url, Some(app::token("acme-owner"))))
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_concurrent_requests_of_the_largest_size_do_not_exhaust_the_memory() {
    let database = Database::create().await;
    let (server, client) = serve(&database).await;
    let process = server.child.id();
    client.data("{ viewer { id } }").await;
    let before = memory(process).0;
    let ids = json!({ "query": "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", "variables": { "ids": vec!["x".repeat(48); 19_000] } });
    let mut worst: Vec<Vec<u8>> = documents::all()
        .into_iter()
        .chain(variables::all())
        .chain(bodies::all())
        .map(|attack| attack.body)
        .filter(|body| (500_000..=1_048_576).contains(&body.len()))
        .collect();
    let ids = ids.to_string().into_bytes();
    // Half of the clients send documents that are executed and so wait for a permit.
    worst = worst.into_iter().flat_map(|body| [ids.clone(), body]).collect();
    assert!(worst.len() > 40, "{}", worst.len());
    let worst = Arc::new(worst);
    let sending = (0..CLIENTS).map(|number| {
        let (client, worst) = (client.clone(), Arc::clone(&worst));
        tokio::spawn(async move {
            let mut answered = 0;
            for round in 0..2 {
                let body = worst[(number + round * 7) % worst.len()].clone();
                let sent = client.post().header(CONTENT_TYPE, "application/json").body(body);
                // A body that takes ten seconds is cut off, which may happen on few processors.
                if let Ok(response) = sent.timeout(Duration::from_mins(2)).send().await {
                    assert_ne!(response.status(), 500);
                    answered += 1;
                }
            }
            answered
        })
    });
    let answered: usize = join_all(sending).await.into_iter().map(Result::unwrap).sum();
    assert!(answered >= CLIENTS, "{answered} were answered");
    let (after, peak) = memory(process);
    eprintln!(
        "memory with {CLIENTS} clients: {} MiB before, {} MiB at the peak, {} MiB after",
        before / MIB,
        peak / MIB,
        after / MIB
    );
    assert!(peak < before + CLIENTS as u64 * MOST_OF_A_CLIENT, "{} MiB", peak / MIB);
    assert_eq!(client.data("{ viewer { name } }").await["viewer"]["name"], "Olivia");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_the_document_caches_is_bounded() {
    let database = Database::create().await;
    let (server, client) = serve(&database).await;
    let process = server.child.id();
    client.data("{ viewer { id } }").await;
    let before = memory(process).0;
    // 200 bytes that expand to some thousand selections, a different document each time.
    let bomb: Vec<_> = (0..11)
        .map(|n| format!("fragment f{n} on Query {{ ...f{m} ...f{m} }}", m = n + 1))
        .collect();
    let bomb = format!("{{ ...f0 }} {} fragment f11 on Query {{ __typename }}", bomb.join(" "));
    let long = format!("{{ __typename {} }}", "a: __typename ".repeat(25));
    let mut handles = Vec::new();
    for part in 0..8 {
        let (client, bomb, long) = (client.clone(), bomb.clone(), long.clone());
        handles.push(tokio::spawn(async move {
            for n in 0..80 {
                let query = format!("query q{part}_{n} {bomb}");
                let reply = client.query(&query).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                // And persisted documents near the maximum length.
                let query = format!("query q{part}_{n} {long} #{}", "x".repeat(15_000));
                let reply =
                    client.send(&json!({ "query": query, "documentId": sha256(&query) })).await;
                assert_eq!(reply.status, 200, "{reply:?}");
            }
        }));
    }
    for handle in handles {
        handle.await.unwrap();
    }
    let (after, peak) = memory(process);
    eprintln!(
        "memory of the document caches: {} MiB before, {} MiB at the peak, {} MiB after",
        before / MIB,
        peak / MIB,
        after / MIB
    );
    assert!(after < before + MOST_REMEMBERED, "{} MiB", after / MIB);
}

fn sha256(text: &str) -> String {
    use std::fmt::Write;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}
