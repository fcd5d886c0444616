//! A randomized test of tenant isolation: thousands of concurrent operations over the whole schema,
//! by users of many organizations, with ids of each other. Every response is scanned for foreign
//! data, a small model predicts every outcome, and at the end the database must equal the model.
//!
//! `ISOLATION_SEED` repeats a run as far as eight concurrent clients allow, and
//! `ISOLATION_OPERATIONS` sets its length.

mod checks;
mod effects;
mod expected_errors;
mod fixture;
mod further_resources;
mod generator;
mod identity;
mod model;
mod modelled_operations;
mod mutations;
mod ownership;
mod random_operations;
mod random_query;
mod responses;
mod subscribers;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use chrono::{DateTime, Utc};
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::{sync::RwLock, task::JoinSet};

use self::{
    fixture::Fixture,
    generator::{Generator, Target},
    model::{Organization, Slugs},
    ownership::{Ownership, User},
    random_query::Schema,
};
use crate::support::{App, AppSettings, HANG, Reply, app};

const CLIENTS: usize = 8;

/// A default short enough for every run of the tests.
const OPERATIONS: usize = 1_500;

/// After this number of unmodelled operations, the memberships are read from the database again.
const REFRESH_INTERVAL: usize = 500;

/// In the middle of a month, so that no subscription ends during the test.
const NOW: &str = "2030-06-15T12:00:00Z";

/// State that several organizations share.
struct Shared {
    slugs: Slugs,
    organizations: Vec<Arc<RwLock<Organization>>>,
}

struct Harness {
    app: App,
    http: reqwest::Client,
    schema: Schema,
    seed: u64,
    users: Vec<User>,
    ownership: Mutex<Ownership>,
    shared: RwLock<Shared>,
    next: AtomicUsize,
    outcomes: Mutex<BTreeMap<String, usize>>,
    covered: Mutex<BTreeSet<&'static str>>,
    /// Successful mutations in the phase without a model, by organization and name.
    unmodelled: Mutex<BTreeMap<(usize, &'static str), i64>>,
    /// The mutations of resources that the model does not know, and the number of those tried.
    further: Vec<&'static str>,
    tried: AtomicUsize,
}

/// A request and its caller.
#[derive(Clone, Debug)]
struct Request {
    number: usize,
    caller: usize,
    target: Target,
    document: String,
    variables: Value,
}

impl Request {
    /// Returns every text in the variables and the target.
    fn sent(&self) -> Vec<String> {
        let texts = self.variables["input"].as_object().into_iter().flatten();
        let texts = texts.filter_map(|(_, value)| value.as_str().filter(|text| !text.is_empty()));
        let target =
            [&self.target.slug, &self.target.claim].into_iter().flatten().map(String::as_str);
        texts.chain(target).map(str::to_owned).collect()
    }
}

impl Harness {
    async fn build(seed: u64) -> Self {
        let clock = tenantry::clock::Clock::from_fn(|| NOW.parse::<DateTime<Utc>>().unwrap());
        let mut settings = AppSettings {
            clock,
            max_connections: CLIENTS,
            turn_wait: HANG,
            ..AppSettings::default()
        };
        settings.areas.organization.max_owned = u32::try_from(model::MAX_OWNED).unwrap();
        let app = App::with(settings).await;
        let fixture = Fixture::new(&mut Rng::with_seed(seed));
        fixture.write(&app.database).await;
        let token = token(&fixture.users[0], None);
        let schema = Schema::ask(&app.client(None, Some(token))).await;
        let organizations = fixture
            .organizations
            .into_iter()
            .map(|organization| Arc::new(RwLock::new(organization)));
        let shared = Shared { slugs: fixture.slugs, organizations: organizations.collect() };
        Self {
            app,
            http: reqwest::Client::new(),
            schema,
            seed,
            users: fixture.users,
            ownership: Mutex::new(fixture.ownership),
            shared: RwLock::new(shared),
            next: AtomicUsize::new(0),
            outcomes: Mutex::default(),
            covered: Mutex::default(),
            unmodelled: Mutex::default(),
            further: further_resources::mutations(),
            tried: AtomicUsize::new(0),
        }
    }

    /// Makes the same choices for the same number, as far as the state is the same.
    fn rng(&self, number: usize) -> Rng {
        Rng::with_seed(self.seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn generator<'a>(&'a self, rng: &'a mut Rng, here: &'a Organization) -> Generator<'a> {
        let Self { users, schema, ownership, .. } = self;
        Generator { rng, users, schema, ownership, here }
    }

    async fn send(&self, request: &Request) -> Reply {
        let Target { slug, claim } = &request.target;
        let path = slug.as_ref().map_or_else(String::new, |slug| format!("/org/{slug}"));
        let body = json!({ "query": request.document, "variables": request.variables });
        let token = token(&self.users[request.caller], claim.as_deref());
        let request = self
            .http
            .post(format!("{}{path}/graphql", self.app.base))
            .header("accept", "application/graphql-response+json")
            .bearer_auth(token)
            .json(&body);
        Reply::of(request).await
    }
}

fn token(user: &User, claim: Option<&str>) -> String {
    let mut claims = json!({ "sub": user.tag, "exp": 4_000_000_000_i64 });
    if let Some(claim) = claim {
        claims["org"] = json!(claim);
    }
    app::token_with(&claims)
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number")),
        Err(_) => default,
    }
}

/// Runs eight clients until `until` operations have started.
async fn run<F: Future<Output = ()> + Send + 'static>(
    harness: &Arc<Harness>,
    until: usize,
    operation: impl Fn(Arc<Harness>, usize) -> F + Copy + Send + 'static,
) {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let harness = Arc::clone(harness);
        clients.spawn(async move {
            loop {
                let number = harness.next.fetch_add(1, Ordering::Relaxed);
                if number >= until {
                    return;
                }
                operation(Arc::clone(&harness), number).await;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn run_test(operations: usize) {
    let start = Instant::now();
    let harness = Arc::new(Harness::build(setting("ISOLATION_SEED", fastrand::u64(..))).await);
    // In the first phase the model predicts everything: a mutation has its organization to itself.
    run(&harness, operations * 7 / 10, |harness, number| async move {
        harness.modelled_operation(number).await;
    })
    .await;
    let mut organizations = Vec::new();
    for organization in &harness.shared.read().await.organizations {
        organizations.push(organization.read().await.clone());
    }
    fixture::compare(&harness.app.database, &harness.users, &organizations).await;
    harness.compare_identities().await;
    // In the second phase nothing waits, and only invariants are checked.
    let before = random_operations::start(&harness).await;
    let (end, stop) = tokio::sync::watch::channel(false);
    let subscribers = subscribers::start(&harness, &stop).await;
    let mut started = operations * 7 / 10;
    while started < operations {
        harness.next.store(started, Ordering::Relaxed);
        started = operations.min(started + REFRESH_INTERVAL);
        run(
            &harness,
            started,
            |harness, number| async move { harness.random_operation(number).await },
        )
        .await;
        // Later operations use the ids that exist now.
        random_operations::refresh(&harness).await;
    }
    end.send_replace(true);
    let events: usize = subscribers.join_all().await.into_iter().sum();
    random_operations::check_counts(&harness, &before).await;
    harness.resolve_unknown_ids().await;
    harness.compare_identities().await;
    println!("{}; {events} events", harness.summary(start));
    assert!(events > 0, "no subscriber received an event");
    let mut covered = harness.covered.lock().unwrap().clone();
    covered.insert("query");
    let mutations: BTreeSet<&str> = harness.schema.field_names("Mutation").into_iter().collect();
    assert_eq!(covered, mutations, "ISOLATION_SEED={}: every mutation is covered", harness.seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_match_the_model_and_show_nothing_of_other_tenants() {
    run_test(setting("ISOLATION_OPERATIONS", OPERATIONS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; ISOLATION_OPERATIONS sets the length"]
async fn many_random_operations_match_the_model_and_show_nothing_of_other_tenants() {
    run_test(setting("ISOLATION_OPERATIONS", 50_000)).await;
}
