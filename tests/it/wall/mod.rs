//! The wall between tenants, attacked at random: thousands of operations over the whole schema, by
//! people of many organizations, with each other's ids, at the same time. Every answer is scanned
//! for what belongs to others, every outcome predicted by a small model, and at the end the
//! database must say what the model says.
//!
//! `WALL_SEED` repeats a run as far as eight clients at once can be repeated, `WALL_OPERATIONS`
//! sets its length.

mod change;
mod draft;
mod effect;
mod model;
mod objection;
mod reading;
mod register;
mod reply;
mod step;
mod storm;
mod verdict;
mod watch;
mod world;

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
    draft::{Draft, Place},
    model::{Organization, Slugs},
    reading::Schema,
    register::{Person, Register},
    world::World,
};
use crate::support::{App, AppSettings, Reply, app};

const CLIENTS: usize = 8;

/// So that the default is short enough for every run of the tests.
const OPERATIONS: usize = 1_500;

/// After so many unpredicted operations it is looked up who is where.
const ROUND: usize = 500;

/// In the middle of a month, so that no subscription ends meanwhile.
const NOW: &str = "2030-06-15T12:00:00Z";

/// The state that more than one organization has a part in.
struct Globe {
    slugs: Slugs,
    organizations: Vec<Arc<RwLock<Organization>>>,
}

struct Wall {
    app: App,
    http: reqwest::Client,
    schema: Schema,
    seed: u64,
    people: Vec<Person>,
    register: Mutex<Register>,
    globe: RwLock<Globe>,
    next: AtomicUsize,
    outcomes: Mutex<BTreeMap<String, usize>>,
    tried: Mutex<BTreeSet<&'static str>>,
    /// Mutations that succeeded while nobody kept a model: organization and name.
    unmodeled: Mutex<BTreeMap<(usize, &'static str), i64>>,
}

/// A request, and who sends it.
#[derive(Clone, Debug)]
struct Attempt {
    number: usize,
    caller: usize,
    place: Place,
    document: String,
    variables: Value,
}

impl Attempt {
    /// Every text in the variables.
    fn sent(&self) -> Vec<String> {
        let texts = self.variables["input"].as_object().into_iter().flatten();
        let texts = texts.filter_map(|(_, value)| value.as_str().filter(|text| !text.is_empty()));
        let place = [&self.place.slug, &self.place.claim].into_iter().flatten().map(String::as_str);
        texts.chain(place).map(str::to_owned).collect()
    }
}

impl Wall {
    async fn build(seed: u64) -> Self {
        let clock = tenantry::clock::Clock::from_fn(|| NOW.parse::<DateTime<Utc>>().unwrap());
        let mut settings =
            AppSettings { clock, max_connections: CLIENTS, ..AppSettings::default() };
        settings.business.max_owned_organizations = u32::try_from(model::MOST_OWNED).unwrap();
        let app = App::with(settings).await;
        let world = World::new(&mut Rng::with_seed(seed));
        world.write(&app.database).await;
        let token = token(&world.people[0], None);
        let schema = Schema::ask(&app.client(None, Some(token))).await;
        let organizations =
            world.organizations.into_iter().map(|organization| Arc::new(RwLock::new(organization)));
        let globe = Globe { slugs: world.slugs, organizations: organizations.collect() };
        Self {
            app,
            http: reqwest::Client::new(),
            schema,
            seed,
            people: world.people,
            register: Mutex::new(world.register),
            globe: RwLock::new(globe),
            next: AtomicUsize::new(0),
            outcomes: Mutex::default(),
            tried: Mutex::default(),
            unmodeled: Mutex::default(),
        }
    }

    /// The same choices for the same number, as far as the state is the same.
    fn rng(&self, number: usize) -> Rng {
        Rng::with_seed(self.seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn draft<'a>(&'a self, rng: &'a mut Rng, here: &'a Organization) -> Draft<'a> {
        let Self { people, schema, register, .. } = self;
        Draft { rng, people, schema, register, here }
    }

    async fn send(&self, attempt: &Attempt) -> Reply {
        let Place { slug, claim } = &attempt.place;
        let path = slug.as_ref().map_or_else(String::new, |slug| format!("/org/{slug}"));
        let body = json!({ "query": attempt.document, "variables": attempt.variables });
        let token = token(&self.people[attempt.caller], claim.as_deref());
        let request = self
            .http
            .post(format!("{}{path}/graphql", self.app.base))
            .header("accept", "application/graphql-response+json")
            .bearer_auth(token)
            .json(&body);
        Reply::of(request).await
    }
}

fn token(person: &Person, claim: Option<&str>) -> String {
    let mut claims = json!({ "sub": person.tag, "exp": 4_000_000_000_i64 });
    if let Some(claim) = claim {
        claims["org"] = json!(claim);
    }
    app::token_with(&claims)
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number")),
        Err(_) => default,
    }
}

/// Eight clients, until so many operations have begun.
async fn run<F: Future<Output = ()> + Send + 'static>(
    wall: &Arc<Wall>,
    until: usize,
    step: impl Fn(Arc<Wall>, usize) -> F + Copy + Send + 'static,
) {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let wall = Arc::clone(wall);
        clients.spawn(async move {
            loop {
                let number = wall.next.fetch_add(1, Ordering::Relaxed);
                if number >= until {
                    return;
                }
                step(Arc::clone(&wall), number).await;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn attack(operations: usize) {
    let start = Instant::now();
    let wall = Arc::new(Wall::build(setting("WALL_SEED", fastrand::u64(..))).await);
    // First everything is predicted: what changes an organization waits for what else happens in
    // it.
    run(&wall, operations * 7 / 10, |wall, number| async move { wall.step(number).await }).await;
    let mut organizations = Vec::new();
    for organization in &wall.globe.read().await.organizations {
        organizations.push(organization.read().await.clone());
    }
    world::compare(&wall.app.database, &wall.people, &organizations).await;
    // Then nobody waits for anybody, and what must always hold is looked at.
    let before = storm::prepare(&wall).await;
    let (end, stop) = tokio::sync::watch::channel(false);
    let watching = watch::begin(&wall, &stop).await;
    let mut begun = operations * 7 / 10;
    while begun < operations {
        wall.next.store(begun, Ordering::Relaxed);
        begun = operations.min(begun + ROUND);
        run(&wall, begun, |wall, number| async move { wall.storm(number).await }).await;
        // What others will name is what is there.
        storm::refresh(&wall).await;
    }
    end.send_replace(true);
    let events: usize = watching.join_all().await.into_iter().sum();
    storm::settle(&wall, &before).await;
    wall.settle_unknown().await;
    println!("{}; {events} events", wall.summary(start));
    assert!(events > 0, "nobody was told of anything");
    let mut tried = wall.tried.lock().unwrap().clone();
    tried.insert("query");
    // It would change who signs in as whom; attacks::account_linking tries it.
    tried.insert("unlinkIdentity");
    let mutations: BTreeSet<&str> = wall.schema.field_names("Mutation").into_iter().collect();
    assert_eq!(tried, mutations, "WALL_SEED={}: every mutation is tried", wall.seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_passes_the_wall_whoever_tries_what() {
    attack(setting("WALL_OPERATIONS", OPERATIONS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: for looking longer, with WALL_OPERATIONS for longer still"]
async fn nothing_passes_the_wall_for_long() {
    attack(setting("WALL_OPERATIONS", 50_000)).await;
}
