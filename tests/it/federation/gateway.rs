//! The programs of `docs/extending.md`, run as a reader would: a service in another language, and a
//! second subgraph with a gateway in front of both.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tenantry::{
    auth::{Algorithm, JwksOptions},
    schema::subgraph_sdl,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{interval, timeout},
};

use super::settings;
use crate::support::{
    App, AppSettings, Client, HANG, Reply,
    app::{SECRET, now, token, token_with},
    node::{self, Script},
};

const PAGE: &str = include_str!("../../../docs/extending.md");

/// The blocks of the page in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    let after = PAGE.split(&start).skip(1);
    after.map(|text| text.split_once("```").unwrap().0).collect()
}

/// Writes the files of the page into a new folder beside the packages. Returns `None` if npm is not
/// installed.
async fn files(name: &str) -> Option<PathBuf> {
    let folder = node::packages().await?.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tenantry.graphql"), subgraph_sdl()).unwrap();
    let mut written = 0;
    for text in blocks("js").into_iter().chain(blocks("graphql")) {
        let first = text.lines().next().unwrap();
        let Some(title) = first.strip_prefix("// ").or(first.strip_prefix("# ")) else { continue };
        let name = title.split(':').next().unwrap();
        std::fs::write(folder.join(name), text).unwrap();
        written += 1;
    }
    assert_eq!(written, 5);
    Some(folder)
}

/// A program of the page, which ends with this value.
struct Program {
    _process: Child,
    url: String,
}

impl Program {
    /// Starts the program, and waits until it listens on a free port.
    async fn start(folder: &Path, script: &str, environment: &[(&str, &str)]) -> Self {
        let log = folder.join(script).with_extension("log");
        let mut process = Command::new("node")
            .arg(script)
            .current_dir(folder)
            .env("PORT", "0")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.unwrap();
                let failure = || panic!("{script}: {}", std::fs::read_to_string(&log).unwrap());
                let line = line.unwrap_or_else(failure);
                if line.starts_with("http://") {
                    return line;
                }
            }
        };
        let url = timeout(HANG, listening).await.unwrap();
        // What it prints later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _process: process, url }
    }
}

macro_rules! files_or_skip {
    ($name:literal) => {
        match files($name).await {
            Some(folder) => folder,
            None => {
                eprintln!("SKIPPED: npm is not installed");
                return;
            }
        }
    };
}

/// Tokens of a gateway's users name the organization.
fn token_in(organization: &str, role: &str) -> String {
    token_with(&json!({ "sub": format!("{organization}-{role}"), "org": organization }))
}

async fn report(service: &Program, slug: &str, token: Option<String>) -> (u16, Value) {
    let url = format!("{}/org/{slug}/report", service.url);
    let reply = Reply::of(Client::new(url, token).get()).await;
    (reply.status.as_u16(), reply.body)
}

#[tokio::test]
async fn a_service_in_another_language_verifies_the_token_and_asks_who_the_caller_is() {
    let folder = files_or_skip!("service");
    let app = App::start().await;
    let environment = [("TENANTRY_URL", app.base.as_str()), ("JWT_SECRET", SECRET)];
    let service = Program::start(&folder, "service.mjs", &environment).await;
    let documented = blocks("json")[0];
    let documented: Value = serde_json::from_str(documented).unwrap();
    let owner = report(&service, "acme", Some(token("acme-owner"))).await;
    assert_eq!(owner, (200, documented));
    for (slug, token, status) in [
        ("acme", None, 401),
        ("acme", Some("nonsense".to_owned()), 401),
        ("acme", Some(token_with(&json!({ "sub": "acme-owner", "exp": 1 }))), 401),
        ("acme", Some(token("acme-member")), 403),
        ("acme", Some(token_in("globex", "owner")), 403),
        ("acme", Some(token("globex-owner")), 404),
        ("globex", Some(token("globex-admin")), 200),
        ("nothing", Some(token("acme-owner")), 404),
    ] {
        let (found, body) = report(&service, slug, token).await;
        assert_eq!(found, status, "{slug}: {body}");
    }
    // The next question has the new role.
    app.database
        .execute(
            "UPDATE auth.organization_members SET role = 'viewer'
             WHERE user_id = '00000000-0000-4000-8000-0000000000b2'",
        )
        .await;
    assert_eq!(report(&service, "globex", Some(token("globex-admin"))).await.0, 403);
}

/// The default of `JWT_ALGORITHMS`.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

#[tokio::test]
async fn a_service_in_another_language_reads_the_keys_of_the_identity_provider() {
    let folder = files_or_skip!("service_keys");
    let Some(mut issuer) = Script::start("issuer.mjs").await else { return };
    let url = issuer.text(&json!({ "do": "start" }));
    let options = JwksOptions {
        url: url.parse().unwrap(),
        algorithms: ALGORITHMS.map(|(_, algorithm)| algorithm).to_vec(),
        cooldown: Duration::from_millis(300),
        max_age: HANG,
    };
    let app = App::with(AppSettings { issuer: Some(options), ..AppSettings::default() }).await;
    let environment = [
        ("TENANTRY_URL", app.base.as_str()),
        ("JWT_JWKS_URL", url.as_str()),
        ("JWT_ISSUER", "https://login.example"),
        ("JWT_AUDIENCE", "tenantry,other"),
    ];
    let service = Program::start(&folder, "service.mjs", &environment).await;
    let mut signed = |algorithm: &str, issuer_name: &str, audience: &str| {
        let key = issuer.text(&json!({ "do": "key", "alg": algorithm }));
        let claims = json!({ "sub": "acme-owner", "iss": issuer_name, "aud": audience,
            "iat": now(), "exp": now() + 3_600.0, "org": null });
        issuer.text(&json!({ "do": "token", "kid": key, "claims": claims }))
    };
    // The seeded identities have no issuer, so that tenantry knows this user as a new one.
    let accepted = ALGORITHMS.map(|(name, _)| signed(name, "https://login.example", "other"));
    let refused = [
        signed("RS256", "https://login.example", "elsewhere"),
        signed("RS256", "https://elsewhere.example", "other"),
        token_with(&json!({ "sub": "acme-owner", "iss": "https://login.example", "aud": "other" })),
    ];
    // All keys are there before the service reads them, which it does not repeat at once.
    for (token, (name, _)) in accepted.into_iter().zip(ALGORITHMS) {
        assert_eq!(report(&service, "acme", Some(token)).await.0, 404, "{name}");
    }
    for refused in refused {
        assert_eq!(report(&service, "acme", Some(refused)).await.0, 401);
    }
}

/// tenantry, a second subgraph, and the gateway in front of both.
struct Supergraph {
    app: App,
    gateway: Program,
    _tickets: Program,
}

impl Supergraph {
    async fn start(folder: &Path) -> Self {
        let app = App::with(settings()).await;
        let environment = [("TENANTRY_URL", app.base.as_str()), ("JWT_SECRET", SECRET)];
        let tickets = Program::start(folder, "subgraph.mjs", &environment).await;
        let environment =
            [("TENANTRY_URL", app.base.as_str()), ("TICKETS_URL", tickets.url.as_str())];
        let gateway = Program::start(folder, "gateway.mjs", &environment).await;
        Self { app, gateway, _tickets: tickets }
    }

    fn user(&self, organization: &str, role: &str) -> Client {
        Client::new(self.gateway.url.clone(), Some(token_in(organization, role)))
    }

    /// The newest project of an organization, from tenantry itself.
    async fn project(&self, organization: &str) -> Value {
        let owner = self.app.user(&format!("{organization}-owner"));
        let data =
            owner.data("{ organization { projects(first: 1) { nodes { id name } } } }").await;
        data["organization"]["projects"]["nodes"][0].clone()
    }
}

const OPEN: &str = "mutation ($id: ID!) { openTicket(projectId: $id, title: \"It squeaks\") {
    id title project { id name openTickets } organization { slug } } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_answers_from_tenantry_and_from_a_second_subgraph() {
    let folder = files_or_skip!("gateway");
    let supergraph = Supergraph::start(&folder).await;
    let owner = supergraph.user("acme", "owner");
    let project = supergraph.project("acme").await;
    let data = owner.query_with(OPEN, json!({ "id": project["id"] })).await.data();
    assert_eq!(
        data["openTicket"],
        json!({ "id": "1", "title": "It squeaks", "organization": { "slug": "acme" },
            "project": { "id": project["id"], "name": project["name"], "openTickets": 1 } })
    );
    // The query of the page.
    let documented = blocks("graphql")[0];
    let data = owner.data(documented).await;
    let projects = data["organization"]["projects"]["nodes"].as_array().unwrap();
    assert_eq!(projects.len(), 4);
    assert_eq!(projects[0], json!({ "name": project["name"], "openTickets": 1 }));
    assert_eq!(projects[1]["openTickets"], 0);
    let name = &project["name"];
    let ticket = json!({ "title": "It squeaks", "project": { "name": name } });
    assert_eq!(data["tickets"], json!([ticket]));

    // A ticket may name any project. Those of another tenant and unknown ones are null alike.
    let foreign = supergraph.project("globex").await["id"].clone();
    let unknown = json!("00000000-0000-4000-8000-0000000000ff");
    let mut replies = Vec::new();
    for id in [foreign, unknown] {
        let mut reply = owner.query_with(OPEN, json!({ "id": id })).await.body;
        assert_eq!(reply["data"]["openTicket"]["project"], Value::Null, "{reply}");
        assert_eq!(reply["data"]["openTicket"]["organization"]["slug"], "acme");
        reply["data"]["openTicket"]["id"] = json!("any");
        replies.push(reply);
    }
    assert_eq!(replies[0], replies[1]);

    // Each user has the data of the organization that the token names.
    let data = supergraph.user("globex", "owner").data(documented).await;
    assert_eq!(data["tickets"], json!([]));
    assert_eq!(data["organization"]["projects"]["nodes"].as_array().unwrap().len(), 2);
    let viewer = supergraph.user("acme", "viewer");
    let reply = viewer.query_with(OPEN, json!({ "id": project["id"] })).await;
    assert!(reply.text.contains("Your role does not allow this."), "{reply:?}");
    assert_eq!(viewer.data("{ tickets { id } }").await["tickets"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_and_subscriptions_pass_through_a_gateway() {
    let folder = files_or_skip!("gateway_errors");
    let supergraph = Supergraph::start(&folder).await;
    let query = "{ organization { name } }";
    let forged = Client::new(supergraph.gateway.url.clone(), Some("nonsense".to_owned()));
    assert_eq!(forged.query(query).await.codes(), ["UNAUTHENTICATED"]);
    let anonymous = Client::new(supergraph.gateway.url.clone(), None);
    assert_eq!(anonymous.query(query).await.codes(), ["UNAUTHENTICATED"]);
    let owner = supergraph.user("acme", "owner");
    let rename = "mutation ($id: ID!, $name: String!) {
        updateProject(input: { id: $id, name: $name }) { project { name openTickets } } }";
    let id = supergraph.project("acme").await["id"].clone();
    let reply = owner.query_with(rename, json!({ "id": id, "name": "" })).await;
    assert_eq!(reply.codes(), ["BAD_USER_INPUT"]);
    assert_eq!(reply.body["errors"][0]["extensions"]["field"], "input.name");
    // Neither the fields for gateways nor a query within a mutation are in the supergraph.
    for absent in [
        "{ _service { sdl } }",
        "{ _entities(representations: []) { __typename } }",
        "mutation { query { viewer { id } } }",
    ] {
        assert_eq!(owner.query(absent).await.codes(), ["GRAPHQL_VALIDATION_FAILED"], "{absent}");
    }

    let subscription = "subscription { projectChanged { id project { name openTickets } } }";
    let mut stream = owner
        .post()
        .header("accept", "text/event-stream")
        .json(&json!({ "query": subscription }))
        .send()
        .await
        .unwrap();
    let mut received = String::new();
    // The subscription begins some time after its request, so the change is made until it arrives.
    let mut again = interval(Duration::from_millis(200));
    let mut changes = 0;
    let event = async {
        while !received.contains("projectChanged") {
            tokio::select! {
                chunk = stream.chunk() => {
                    let chunk = chunk.unwrap().expect("the stream has ended");
                    received.push_str(&String::from_utf8_lossy(&chunk));
                }
                _ = again.tick() => {
                    changes += 1;
                    let name = format!("Change {changes}");
                    owner.query_with(rename, json!({ "id": id, "name": name })).await.data();
                }
            }
        }
    };
    timeout(HANG, event).await.unwrap();
    let event = received.lines().find_map(|line| line.strip_prefix("data: {")).unwrap();
    let event: Value = serde_json::from_str(&format!("{{{event}")).unwrap();
    let project = &event["data"]["projectChanged"]["project"];
    assert!(project["name"].as_str().unwrap().starts_with("Change "), "{event}");
    assert_eq!(project["openTickets"], 0);
}

#[test]
fn the_page_installs_packages_that_the_tests_use() {
    let tests: Value = serde_json::from_str(include_str!("../../node/package.json")).unwrap();
    let mut installed = 0;
    for block in blocks("sh") {
        let command = block.replace("\\\n", " ");
        let install = command.lines().find_map(|line| line.strip_prefix("npm install "));
        for package in install.unwrap_or_default().split_whitespace() {
            let name = package.trim_end_matches("@16");
            assert!(tests["dependencies"][name].is_string(), "{name}");
            installed += 1;
        }
    }
    assert_eq!(installed, 8);
}
