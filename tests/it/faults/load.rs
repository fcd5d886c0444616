//! Clients of several tenants that write and read without a pause, and the book that they keep of
//! what they were told.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::support::{app, cluster::TENANTS};

/// What a client was told about a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done, and has this id.
    Acknowledged(String),
    /// Nothing was written; the code says why.
    Refused(String),
    /// The server, or its silence, says that nobody knows.
    Unknown,
}

/// One write, in the book by its name.
#[derive(Clone, Debug)]
pub struct Write {
    pub tenant: &'static str,
    pub fate: Fate,
    pub begun: Instant,
    pub ended: Instant,
}

/// What clients were told.
#[derive(Default)]
pub struct Book {
    pub writes: Mutex<HashMap<String, Write>>,
    /// When each client was last answered as it wished.
    successes: Mutex<HashMap<String, Instant>>,
    /// Answers to anybody, whatever they say: calls that the server has taken.
    pub answers: AtomicU32,
    pub reads: AtomicU32,
    pub failed_reads: AtomicU32,
    /// Requests that were sent, and to which nothing was answered.
    pub silences: AtomicU32,
    /// What must never be answered.
    pub wrong: Mutex<Vec<String>>,
}

impl Book {
    /// What others were told as well.
    pub fn join(&self, others: &Self) {
        let others_writes = others.writes.lock().unwrap().clone();
        self.writes.lock().unwrap().extend(others_writes);
        let others_wrong = others.wrong.lock().unwrap().clone();
        self.wrong.lock().unwrap().extend(others_wrong);
    }

    /// How many writes were refused.
    pub fn refused(&self) -> usize {
        let writes = self.writes.lock().unwrap();
        writes.values().filter(|write| matches!(write.fate, Fate::Refused(_))).count()
    }
}

/// How the clients go about it.
#[derive(Clone, Copy)]
pub struct Pace {
    /// For each tenant, how many write and how many read.
    pub writers: usize,
    pub readers: usize,
    /// How long a client waits for an answer.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { writers: 2, readers: 1, patience: Duration::from_secs(45) }
    }
}

/// The clients at work.
pub struct Load {
    pub book: Arc<Book>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
    names: Vec<String>,
}

impl Load {
    /// Clients of every tenant, at these servers in turn.
    pub fn start(bases: &[&str], pace: Pace) -> Self {
        let mut load = Self::none();
        for (number, tenant) in TENANTS.iter().copied().enumerate() {
            for place in 0..pace.writers + pace.readers {
                let base = bases[(number + place) % bases.len()];
                load.add(format!("{tenant}-{place}"), tenant, base, pace, place < pace.writers);
            }
        }
        load
    }

    /// One client, who writes.
    pub fn start_one(base: &str, tenant: &'static str) -> Self {
        let mut load = Self::none();
        load.add(format!("{tenant}-alone"), tenant, base, Pace::default(), true);
        load
    }

    fn none() -> Self {
        let (book, stop) = (Arc::new(Book::default()), watch::Sender::new(false));
        Self { book, stop, clients: JoinSet::new(), names: Vec::new() }
    }

    fn add(&mut self, name: String, tenant: &'static str, base: &str, pace: Pace, writes: bool) {
        let client = Client {
            name: name.clone(),
            tenant,
            url: format!("{base}/org/{tenant}/graphql"),
            token: app::token(&format!("{tenant}-owner")),
            http: reqwest::Client::builder().timeout(pace.patience).build().unwrap(),
            book: Arc::clone(&self.book),
        };
        self.names.push(name);
        self.clients.spawn(client.go_on(writes, self.stop.subscribe()));
    }

    /// Waits until every client was answered as it wished since `then`, and says after how long the
    /// first one and the last one were.
    pub async fn recovers_from(&self, then: Instant, within: Duration) -> (f64, f64) {
        let mut first = None;
        loop {
            let again = self.again_since(then);
            first = first.or(again.iter().min().copied());
            let all = (again.len() == self.names.len()).then(|| again.iter().max()).flatten();
            if let (Some(first), Some(last)) = (first, all) {
                return ((first - then).as_secs_f64(), (*last - then).as_secs_f64());
            }
            assert!(
                then.elapsed() < within,
                "only {} of {} clients are served again after {within:?}: {:?}",
                again.len(),
                self.names.len(),
                self.last_refusals()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everybody is served.
    pub async fn flows(&self) {
        self.recovers_from(Instant::now(), Duration::from_secs(20)).await;
    }

    fn again_since(&self, then: Instant) -> Vec<Instant> {
        let successes = self.book.successes.lock().unwrap();
        successes.values().filter(|at| **at > then).copied().collect()
    }

    fn last_refusals(&self) -> Vec<Write> {
        let mut writes: Vec<_> = self.book.writes.lock().unwrap().values().cloned().collect();
        writes.sort_by_key(|write| write.ended);
        writes.split_off(writes.len().saturating_sub(5))
    }

    /// Everybody finishes what they have begun.
    pub async fn stop(mut self) -> Arc<Book> {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.book
    }
}

struct Client {
    name: String,
    tenant: &'static str,
    url: String,
    token: String,
    http: reqwest::Client,
    book: Arc<Book>,
}

/// What came of a request: an answer, or none, and whether it was sent at all.
enum Exchange {
    Answered(u16, Value),
    StallGuard,
    NeverSent,
}

impl Client {
    async fn go_on(self, writes: bool, stop: watch::Receiver<bool>) {
        for number in 0_u32.. {
            if *stop.borrow() {
                return;
            }
            let success = if writes { self.write(number).await } else { self.read().await };
            if success {
                let mut successes = self.book.successes.lock().unwrap();
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
                        self.book.answers.fetch_add(1, Ordering::Relaxed);
                        Exchange::Answered(status, body)
                    }
                    Err(_) => self.silence(),
                }
            }
        }
    }

    fn silence(&self) -> Exchange {
        self.book.silences.fetch_add(1, Ordering::Relaxed);
        Exchange::StallGuard
    }

    async fn write(&self, number: u32) -> bool {
        const CREATE: &str = "mutation ($name: String!) { createProject(input: { name: $name }) { project { id name } } }";
        let name = format!("{} {} {number}", self.tenant, self.name);
        let begun = Instant::now();
        let exchange = self.exchange(CREATE, json!({ "name": name })).await;
        let fate = match exchange {
            Exchange::Answered(status, body) => self.fate(status, &body, &name),
            Exchange::StallGuard => Fate::Unknown,
            Exchange::NeverSent => Fate::Refused("NEVER_SENT".to_owned()),
        };
        let success = matches!(fate, Fate::Acknowledged(_));
        let write = Write { tenant: self.tenant, fate, begun, ended: Instant::now() };
        self.book.writes.lock().unwrap().insert(name, write);
        success
    }

    fn fate(&self, status: u16, body: &Value, name: &str) -> Fate {
        let project = &body["data"]["createProject"]["project"];
        if status == 200 && body.get("errors").is_none() && project["name"] == name {
            return Fate::Acknowledged(project["id"].as_str().unwrap().to_owned());
        }
        let extensions = &body["errors"][0]["extensions"];
        if extensions["outcome"] == "UNKNOWN" {
            return Fate::Unknown;
        }
        let code = self.trouble(status, body);
        if !body["data"].is_null() {
            self.wrong(format!("data beside an error: {body}"));
        }
        Fate::Refused(code)
    }

    async fn read(&self) -> bool {
        const READ: &str = "{ organization { slug projects(first: 20) { nodes { name } } auditLogs(first: 5) { nodes { metadata } } } }";
        let Exchange::Answered(status, body) = self.exchange(READ, json!({})).await else {
            self.book.failed_reads.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        self.book.reads.fetch_add(1, Ordering::Relaxed);
        if status != 200 || body.get("errors").is_some() {
            self.book.failed_reads.fetch_add(1, Ordering::Relaxed);
            self.trouble(status, &body);
            return false;
        }
        let organization = &body["data"]["organization"];
        let names = organization["projects"]["nodes"].as_array().unwrap();
        let logged = organization["auditLogs"]["nodes"].as_array().unwrap();
        let shown = names.iter().map(|node| &node["name"]);
        let told = logged.iter().map(|node| &node["metadata"]["name"]);
        // The demo's log has the names from before the marker.
        let of_load = |name: &&Value| name.as_str().is_some_and(|name| name.contains('-'));
        let ours = shown.chain(told.filter(of_load)).all(|name| {
            name.as_str().is_some_and(|name| name.starts_with(&format!("{} ", self.tenant)))
        });
        if organization["slug"] != self.tenant || names.is_empty() || !ours {
            self.wrong(format!("{} was shown {body}", self.tenant));
        }
        true
    }

    /// Trouble has to be called by its name.
    fn trouble(&self, status: u16, body: &Value) -> String {
        let code = body["errors"][0]["extensions"]["code"].as_str().unwrap_or("none").to_owned();
        if ![(503, "UNAVAILABLE"), (504, "TIMEOUT")].contains(&(status, code.as_str())) {
            self.wrong(format!("{status} {body}"));
        }
        code
    }

    fn wrong(&self, what: String) {
        self.book.wrong.lock().unwrap().push(what);
    }
}
