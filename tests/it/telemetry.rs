//! The program's log as operators read it, traces as their collector receives them, and the
//! listener for operators.

use std::{
    process::{Child, Stdio},
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::{
    Client, Reply,
    app::{SECRET, token_with},
    database::Database,
    process::{self, eventually, tenantry},
};

const ACME: &str = "00000000-0000-4000-8000-00000000000a";
const OLIVIA: &str = "00000000-0000-4000-8000-0000000000a1";
const DASHBOARD: &str =
    "query Dashboard($id: ID!) { organization { name project(id: $id) { name } } }";

/// `tenantry serve`, killed at the end of the test.
struct Serving {
    child: Child,
    log: NamedTempFile,
    base: String,
    admin: String,
}

impl Serving {
    fn start(database: &Database, environment: &[(&str, &str)]) -> Self {
        let log = NamedTempFile::new().unwrap();
        let [base, admin] = [(); 2].map(|()| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        });
        let child = tenantry()
            .arg("serve")
            .env("DATABASE_URL", database.url("tenantry_app"))
            .env("JWT_SECRET", SECRET)
            .env("SECRET_KEY", SECRET)
            .env("LISTEN_ADDR", &base)
            .env("ADMIN_ADDR", &admin)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let serving = Self { child, log, base, admin };
        eventually("it does not listen", || std::net::TcpStream::connect(&serving.base).is_ok());
        serving
    }

    fn user(&self) -> Client {
        let token = token_with(
            &json!({ "sub": "acme-owner", "email": "acme-owner@example.com", "email_verified": true }),
        );
        Client::new(format!("http://{}/org/acme/graphql", self.base), Some(token))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Sends the signal to stop, and waits for the end.
    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        let signalled =
            std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap();
        assert!(signalled.success());
        eventually("it does not end", || self.child.try_wait().unwrap().is_some());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that the text contains no private data of the client or the database.
#[track_caller]
fn assert_no_private_data(text: &str) {
    for secret in ["nobodys-business", "acme-owner@example.com", "eyJ", "Bearer", SECRET, "Olivia"]
    {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
}

async fn reject_connections(database: &Database) {
    let admin = database.admin().with("dbname", "postgres");
    let connection = pg::Client::connect(&admin).await.unwrap();
    let name = &database.name;
    for sql in [
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
    ] {
        connection.batch(&sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_request_is_logged_as_one_line_with_its_cause_and_without_secrets() {
    let database = Database::create().await;
    let serving =
        Serving::start(&database, &[("LOG_FORMAT", "json"), ("RUST_LOG", "info,tenantry=debug")]);
    let user = serving.user();
    let variables = json!({ "id": "nobodys-business" });
    user.query_with(DASHBOARD, variables.clone()).await.data();
    let lines = |log: &str| -> Vec<Value> {
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    let log = serving.log();
    let answered = lines(&log)
        .into_iter()
        .find(|line| line["fields"]["message"] == "answered")
        .unwrap_or_else(|| panic!("{log}"));
    let span = &answered["span"];
    assert_eq!(span["name"], "request");
    assert_eq!(span["operation"], "Dashboard");
    assert_eq!((span["organization"].as_str(), span["user"].as_str()), (Some(ACME), Some(OLIVIA)));
    assert_eq!(span["code"], "OK");
    assert_eq!(span["statements"], 1, "an invalid id is not looked up: {span}");
    assert!(span["database_ms"].as_f64().unwrap() > 0.0, "{span}");
    assert_no_private_data(&log);

    reject_connections(&database).await;
    let reply = user.query_with(DASHBOARD, variables).await;
    reply.assert_refused(503, "UNAVAILABLE");
    let request_id = reply.headers["x-request-id"].to_str().unwrap();
    let log = serving.log();
    let failed: Vec<_> = lines(&log)
        .into_iter()
        .filter(|line| line["fields"]["message"] == "request failed")
        .collect();
    assert_eq!(failed.len(), 1, "{log}");
    assert_eq!(failed[0]["level"], "ERROR");
    assert_eq!(failed[0]["fields"]["request_id"], request_id);
    assert_eq!(failed[0]["fields"]["code"], "UNAVAILABLE");
    assert_eq!(failed[0]["span"]["operation"], "Dashboard");
    let cause = failed[0]["fields"]["cause"].as_str().unwrap();
    assert!(
        cause.contains("not currently accepting connections") || cause.contains("terminating"),
        "{cause}"
    );
    assert_no_private_data(&log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_receives_a_span_for_each_request() {
    let spans: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let take = async |State(spans): State<Arc<Mutex<Vec<Bytes>>>>, body: Bytes| {
        spans.lock().unwrap().push(body);
    };
    let collector = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
    tokio::spawn(async move { axum::serve(listener, collector).await });

    let database = Database::create().await;
    let mut serving = Serving::start(&database, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let user = serving.user();
    for _ in 0..3 {
        user.query_with(DASHBOARD, json!({ "id": "nobodys-business" })).await.data();
    }
    // Spans that are still buffered are sent at the end.
    serving = tokio::task::spawn_blocking(move || {
        serving.stop();
        serving
    })
    .await
    .unwrap();
    let sent = spans.lock().unwrap().concat();
    let sent = String::from_utf8_lossy(&sent);
    assert_eq!(sent.matches("Dashboard").count(), 3, "{}", serving.log());
    for word in ["request", "service.name", "tenantry", ACME, OLIVIA, "statements", "database_ms"] {
        assert!(sent.contains(word), "{word}");
    }
    assert_no_private_data(&sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_have_a_separate_listener() {
    let database = Database::create().await;
    let serving = Serving::start(&database, &[]);
    serving.user().data("query Here { organization { name } }").await;
    let get = async |address: &str, path: &str| {
        Reply::of(reqwest::Client::new().get(format!("http://{address}{path}"))).await
    };
    let response = get(&serving.admin, "/metrics").await;
    assert_eq!(response.status, 200);
    let line = "tenantry_requests_total{operation=\"Here\",code=\"OK\"} 1";
    assert!(response.text.contains(line), "{}", response.text);
    assert_eq!(get(&serving.admin, "/readyz").await.body, json!({ "ready": true }));
    assert_eq!(get(&serving.admin, "/healthz").await.text, "ok\n");
    assert_eq!(get(&serving.admin, "/graphql").await.status, 404);
    assert_eq!(get(&serving.base, "/metrics").await.status, 404);
    assert_eq!(get(&serving.base, "/readyz").await.status, 200);
    let health = |admin: &str, arguments: &[&str]| {
        let mut command = tenantry();
        process::run(command.arg("health").args(arguments).env("ADMIN_ADDR", admin))
    };
    assert_eq!(health(&serving.admin, &[]).code, Some(0));
    assert_eq!(health(&serving.admin, &["--ready"]).code, Some(0));
    let port = serving.admin.rsplit(':').next().unwrap();
    assert_eq!(health(&format!("0.0.0.0:{port}"), &[]).code, Some(0));
    reject_connections(&database).await;
    // The server caches its readiness for two seconds.
    eventually("it reports ready without a database", || {
        let unready = health(&serving.admin, &["--ready"]);
        unready.code == Some(1) && unready.stderr.contains("/readyz responded with 503")
    });
    assert_eq!(health(&serving.admin, &[]).code, Some(0));
    let refused = health("127.0.0.1:1", &[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("no server listens at 127.0.0.1:1"), "{}", refused.stderr);
}
