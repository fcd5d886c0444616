//! Clients of several tenants that write and read without a pause, and a record of the responses
//! that they got.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use crate::support::{HANG, app, cluster::TENANTS};

/// The response that a client got to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Committed, with this id.
    Acknowledged(String),
    /// Nothing was written; the code names the reason.
    Refused(String),
    /// The outcome is unknown: the server said so, or did not respond.
    Unknown,
}

/// A write; the record has it under its name.
#[derive(Clone, Debug)]
pub struct Write {
    pub tenant: &'static str,
    pub outcome: WriteOutcome,
    pub started: Instant,
    pub ended: Instant,
}

/// The record of all responses.
#[derive(Default)]
pub struct WriteLog {
    pub writes: Mutex<HashMap<String, Write>>,
    /// The time of each client's last success.
    successes: Mutex<HashMap<String, Instant>>,
    /// The project of each tenant whose creation was acknowledged last. Every later read must show
    /// it.
    newest: Mutex<HashMap<&'static str, String>>,
    /// Responses of any kind: calls that the server has accepted.
    pub responses: AtomicU32,
    pub reads: AtomicU32,
    pub failed_reads: AtomicU32,
    /// Requests that were sent and got no response.
    pub without_response: AtomicU32,
    /// Responses that must never occur.
    pub wrong: Mutex<Vec<String>>,
}

impl WriteLog {
    /// Adds the record of other clients.
    pub fn join(&self, others: &Self) {
        let others_writes = others.writes.lock().unwrap().clone();
        self.writes.lock().unwrap().extend(others_writes);
        let others_wrong = others.wrong.lock().unwrap().clone();
        self.wrong.lock().unwrap().extend(others_wrong);
    }

    /// Returns how many writes were rejected.
    pub fn refused(&self) -> usize {
        let writes = self.writes.lock().unwrap();
        writes.values().filter(|write| matches!(write.outcome, WriteOutcome::Refused(_))).count()
    }
}

/// The numbers and the timeout of the clients.
#[derive(Clone, Copy)]
pub struct LoadOptions {
    /// Writers and readers of each tenant.
    pub writers: usize,
    pub readers: usize,
    /// How long a client waits for a response.
    pub timeout: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { writers: 2, readers: 1, timeout: Duration::from_secs(45) }
    }
}

/// The running clients.
pub struct Load {
    pub write_log: Arc<WriteLog>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
    names: Vec<String>,
    writers: usize,
}

impl Load {
    /// Starts clients of every tenant, distributed over these servers.
    pub fn start(bases: &[&str], options: LoadOptions) -> Self {
        let mut load = Self::none();
        for (number, tenant) in TENANTS.iter().copied().enumerate() {
            for place in 0..options.writers + options.readers {
                let base = bases[(number + place) % bases.len()];
                load.add(
                    format!("{tenant}-{place}"),
                    tenant,
                    base,
                    options,
                    place < options.writers,
                );
            }
        }
        load
    }

    /// Starts a single client, which writes.
    pub fn start_one(base: &str, tenant: &'static str) -> Self {
        let mut load = Self::none();
        load.add(format!("{tenant}-alone"), tenant, base, LoadOptions::default(), true);
        load
    }

    fn none() -> Self {
        let (write_log, stop) = (Arc::new(WriteLog::default()), watch::Sender::new(false));
        Self { write_log, stop, clients: JoinSet::new(), names: Vec::new(), writers: 0 }
    }

    fn add(
        &mut self,
        name: String,
        tenant: &'static str,
        base: &str,
        options: LoadOptions,
        writes: bool,
    ) {
        let client = Client {
            name: name.clone(),
            tenant,
            url: format!("{base}/org/{tenant}/graphql"),
            token: app::token(&format!("{tenant}-owner")),
            http: reqwest::Client::builder().timeout(options.timeout).build().unwrap(),
            write_log: Arc::clone(&self.write_log),
        };
        self.names.push(name);
        self.writers += usize::from(writes);
        self.clients.spawn(client.run_client(writes, self.stop.subscribe()));
    }

    /// Waits until every client has had a success since `then`. Returns the time until the first
    /// success and until the last client's.
    pub async fn recovers_from(&self, then: Instant) -> (f64, f64) {
        let mut first = None;
        loop {
            let again = self.first_and_last_success(then);
            first = first.or(again.iter().min().copied());
            let all = (again.len() == self.names.len()).then(|| again.iter().max()).flatten();
            if let (Some(first), Some(last)) = (first, all) {
                return ((first - then).as_secs_f64(), (*last - then).as_secs_f64());
            }
            assert!(
                then.elapsed() < HANG,
                "only {} of {} clients are served again: {:?}",
                again.len(),
                self.names.len(),
                self.last_refusals()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every client is served.
    pub async fn wait_until_served(&self) {
        self.recovers_from(Instant::now()).await;
    }

    /// Waits until every writer's write was rejected that began after this moment.
    pub async fn wait_until_rejected(&self, then: Instant) {
        while self.rejected_writers(then) < self.writers {
            assert!(then.elapsed() < HANG, "writes succeed: {:?}", self.last_refusals());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn rejected_writers(&self, then: Instant) -> usize {
        let writes = self.write_log.writes.lock().unwrap();
        let rejected = writes.iter().filter(|(_, write)| {
            write.started > then && matches!(write.outcome, WriteOutcome::Refused(_))
        });
        // The name of a write is its tenant, its client and its number.
        rejected.map(|(name, _)| name.rsplit_once(' ').unwrap().0).collect::<HashSet<_>>().len()
    }

    fn first_and_last_success(&self, then: Instant) -> Vec<Instant> {
        let successes = self.write_log.successes.lock().unwrap();
        successes.values().filter(|at| **at > then).copied().collect()
    }

    fn last_refusals(&self) -> Vec<Write> {
        let mut writes: Vec<_> = self.write_log.writes.lock().unwrap().values().cloned().collect();
        writes.sort_by_key(|write| write.ended);
        writes.split_off(writes.len().saturating_sub(5))
    }

    /// Lets every client finish its current request.
    pub async fn stop(mut self) -> Arc<WriteLog> {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.write_log
    }
}

struct Client {
    name: String,
    tenant: &'static str,
    url: String,
    token: String,
    http: reqwest::Client,
    write_log: Arc<WriteLog>,
}

/// The result of a request: a response, or none, and whether it was sent at all.
enum Exchange {
    Answered(u16, Value),
    StallGuard,
    NeverSent,
}

impl Client {
    async fn run_client(self, writes: bool, stop: watch::Receiver<bool>) {
        for number in 0_u32.. {
            if *stop.borrow() {
                return;
            }
            let success = if writes { self.write(number).await } else { self.read().await };
            if success {
                let mut successes = self.write_log.successes.lock().unwrap();
                successes.insert(self.name.clone(), Instant::now());
            }
            let pause = if success { 2 } else { 25 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn exchange(&self, query: &str, variables: Value) -> Exchange {
        let request = self
            .http
            .post(&self.url)
            .bearer_auth(&self.token)
            .header("accept", "application/graphql-response+json")
            .json(&json!({ "query": query, "variables": variables }));
        match request.send().await {
            Err(error) if error.is_connect() => Exchange::NeverSent,
            Err(_) => self.silence(),
            Ok(response) => {
                let status = response.status().as_u16();
                match response.json().await {
                    Ok(body) => {
                        self.write_log.responses.fetch_add(1, Ordering::Relaxed);
                        Exchange::Answered(status, body)
                    }
                    Err(_) => self.silence(),
                }
            }
        }
    }

    fn silence(&self) -> Exchange {
        self.write_log.without_response.fetch_add(1, Ordering::Relaxed);
        Exchange::StallGuard
    }

    async fn write(&self, number: u32) -> bool {
        const CREATE: &str = "mutation ($name: String!) { createProject(input: { name: $name }) { project { id name } } }";
        let name = format!("{} {} {number}", self.tenant, self.name);
        let started = Instant::now();
        let exchange = self.exchange(CREATE, json!({ "name": name })).await;
        let outcome = match exchange {
            Exchange::Answered(status, body) => self.outcome(status, &body, &name),
            Exchange::StallGuard => WriteOutcome::Unknown,
            Exchange::NeverSent => WriteOutcome::Refused("NEVER_SENT".to_owned()),
        };
        let success = matches!(outcome, WriteOutcome::Acknowledged(_));
        if let WriteOutcome::Acknowledged(id) = &outcome {
            self.write_log.newest.lock().unwrap().insert(self.tenant, id.clone());
        }
        let write = Write { tenant: self.tenant, outcome, started, ended: Instant::now() };
        self.write_log.writes.lock().unwrap().insert(name, write);
        success
    }

    fn outcome(&self, status: u16, body: &Value, name: &str) -> WriteOutcome {
        let project = &body["data"]["createProject"]["project"];
        if status == 200 && body.get("errors").is_none() && project["name"] == name {
            return WriteOutcome::Acknowledged(project["id"].as_str().unwrap().to_owned());
        }
        let extensions = &body["errors"][0]["extensions"];
        if extensions["outcome"] == "UNKNOWN" {
            return WriteOutcome::Unknown;
        }
        let code = self.check_failure(status, body);
        if !body["data"].is_null() {
            self.wrong(format!("data beside an error: {body}"));
        }
        WriteOutcome::Refused(code)
    }

    async fn read(&self) -> bool {
        const READ: &str = "query ($newest: ID!) { organization { slug project(id: $newest) { id }
            projects(first: 20) { nodes { name } } auditLogs(first: 5) { nodes { metadata } } } }";
        let newest = self.write_log.newest.lock().unwrap().get(self.tenant).cloned();
        let id = newest.clone().unwrap_or_else(|| Uuid::nil().to_string());
        let Exchange::Answered(status, body) = self.exchange(READ, json!({ "newest": id })).await
        else {
            self.write_log.failed_reads.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        self.write_log.reads.fetch_add(1, Ordering::Relaxed);
        if status != 200 || body.get("errors").is_some() {
            self.write_log.failed_reads.fetch_add(1, Ordering::Relaxed);
            self.check_failure(status, &body);
            return false;
        }
        let organization = &body["data"]["organization"];
        let names = organization["projects"]["nodes"].as_array().unwrap();
        let logged = organization["auditLogs"]["nodes"].as_array().unwrap();
        let shown = names.iter().map(|node| &node["name"]);
        let logged_names = logged.iter().map(|node| &node["metadata"]["name"]);
        // Names without the marker belong to the demo.
        let of_load = |name: &&Value| name.as_str().is_some_and(|name| name.contains('-'));
        let ours = shown.chain(logged_names.filter(of_load)).all(|name| {
            name.as_str().is_some_and(|name| name.starts_with(&format!("{} ", self.tenant)))
        });
        let is_current =
            newest.as_ref().is_none_or(|newest| organization["project"]["id"] == *newest);
        if organization["slug"] != self.tenant || names.is_empty() || !ours || !is_current {
            let tenant = self.tenant;
            self.wrong(format!("{tenant}, whose newest project is {newest:?}, was shown {body}"));
        }
        true
    }

    /// Checks that a failure has the right status and code.
    fn check_failure(&self, status: u16, body: &Value) -> String {
        let code = body["errors"][0]["extensions"]["code"].as_str().unwrap_or("none").to_owned();
        if ![(503, "UNAVAILABLE"), (504, "TIMEOUT")].contains(&(status, code.as_str())) {
            self.wrong(format!("{status} {body}"));
        }
        code
    }

    fn wrong(&self, what: String) {
        self.write_log.wrong.lock().unwrap().push(what);
    }
}
