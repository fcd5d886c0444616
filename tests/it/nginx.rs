//! The configuration of nginx in `docs/deploying.md`, with a real nginx. CI installs it and runs
//! these tests; elsewhere they are listed as ignored.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::{
    command_line::free_port,
    support::{App, AppSettings, HANG, Reply, app, child_process, process, websocket::Socket},
};

const ADDED: &str = "subscription { projectChanged { project { name } } }";

/// A running nginx, killed when dropped.
struct Nginx {
    process: Child,
    _folder: TempDir,
    base: String,
}

impl Nginx {
    /// Starts nginx with the documented configuration, in front of the server at this address.
    fn start(server: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploying.md");
        let page = fs::read_to_string(page).unwrap();
        let documented = page.split("```nginx\n").nth(1).unwrap().split("```").next().unwrap();
        let mut configuration = documented.to_owned();
        for (text, ours) in
            [("127.0.0.1:4000", server), ("listen 80;", &format!("listen 127.0.0.1:{port};"))]
        {
            assert_eq!(configuration.matches(text).count(), 1, "{text}");
            configuration = configuration.replace(text, ours);
        }
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};"))
            .concat();
        let file = folder.path().join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid pid; error_log stderr; events {{}}\n\
             http {{ access_log off; {paths}\n{configuration} }}"
        );
        fs::write(&file, text).unwrap();
        let mut command = child_process::ending_with_parent("nginx", "KILL");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).stdin(Stdio::null());
        let process = child_process::spawn(command);
        let address = format!("127.0.0.1:{port}");
        let listens = || std::net::TcpStream::connect(&address).is_ok();
        process::eventually("nginx does not listen", listens);
        Self { process, _folder: folder, base: format!("http://{address}") }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Forwards connections to this address, and counts them. Returns the address to call instead.
async fn counting(server: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::<AtomicUsize>::default();
    let accepted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::Relaxed);
            let mut upstream = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut upstream).await });
        }
    });
    (address, count)
}

/// Starts a server that trusts nginx, which is what its clients then call. Also returns how many
/// connections nginx has opened to it.
async fn behind_nginx() -> (App, Nginx, Arc<AtomicUsize>) {
    let trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let mut app = App::with(AppSettings { trusted_proxies, ..AppSettings::default() }).await;
    let server = app.base.trim_start_matches("http://").to_owned();
    let (address, connections) = counting(server).await;
    let nginx = Nginx::start(&address);
    app.base.clone_from(&nginx.base);
    (app, nginx, connections)
}

async fn create(app: &App, name: &str) {
    let create =
        "mutation ($name: String!) { createProject(input: { name: $name }) { project { id } } }";
    app.user("acme-member").query_with(create, json!({ "name": name })).await.data();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: apt-get install nginx-light"]
async fn connections_are_kept_and_the_client_has_its_real_address() {
    let (app, _nginx, connections) = behind_nginx().await;
    let clients = ["acme-owner", "acme-member", "globex-owner"].map(|subject| app.user(subject));
    for _ in 0..100 {
        let replies = clients.iter().map(|client| client.query("{ viewer { id } }"));
        for reply in join_all(replies).await {
            reply.data();
        }
    }
    let connections = connections.load(Ordering::Relaxed);
    assert!(connections < 30, "{connections} connections for 300 requests");
    let client = reqwest::Client::builder().local_address(IpAddr::from([127, 0, 0, 2]));
    let client = client.build().unwrap();
    let body =
        json!({ "query": "mutation { createProject(input: { name: \"x\" }) { project { id } } }" });
    for spoofed in ["x-forwarded-for", "forwarded"] {
        let request = client.post(app.user("acme-owner").url).bearer_auth(app::token("acme-owner"));
        let value = if spoofed == "forwarded" { "for=6.6.6.6" } else { "6.6.6.6" };
        Reply::of(request.header(spoofed, value).json(&body)).await.data();
        let last = "SELECT host(ip_address) FROM audit.audit_logs ORDER BY created_at DESC LIMIT 1";
        assert_eq!(app.database.value::<String>(last).await, "127.0.0.2", "{spoofed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: apt-get install nginx-light"]
async fn events_arrive_at_once_over_every_transport() {
    let (app, _nginx, _) = behind_nginx().await;
    let mut socket = Socket::open(&app, "acme-owner").await;
    socket.subscribe("1", ADDED).await;
    socket.wait_for_messages().await;
    let mut streams = Vec::new();
    for accept in
        ["text/event-stream", "multipart/mixed;boundary=\"graphql\";subscriptionSpec=\"1.0\""]
    {
        let request = reqwest::Client::new().post(app.user("acme-owner").url);
        let request = request.bearer_auth(app::token("acme-owner")).header("accept", accept);
        let response = request.json(&json!({ "query": ADDED })).send();
        let response = tokio::time::timeout(HANG, response).await.unwrap().unwrap();
        assert_eq!(response.headers()["content-type"], accept);
        streams.push((accept, response, String::new()));
    }
    for name in ["First", "Second"] {
        create(&app, name).await;
        let event: Value = socket.event().await;
        assert_eq!(event["projectChanged"]["project"]["name"], name);
        for (accept, response, text) in &mut streams {
            while !text.contains(name) {
                let chunk = tokio::time::timeout(HANG, response.chunk()).await;
                let chunk = chunk.unwrap_or_else(|_| panic!("{accept}: no event {name}"));
                text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
            }
        }
    }
}
