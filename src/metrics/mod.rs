//! The server's metrics, in the Prometheus text format. Names of organizations and users are never
//! labels. Clients choose the names of operations, so `Operations` limits how many become labels.

mod operations;

use std::{sync::Arc, time::Duration};

use async_graphql::resolver_utils::EnumType;
pub use pg::PoolState;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};

use self::operations::{OTHER, Operations};
use crate::{
    error::{Error, ErrorCode},
    rate_limit::Throttle,
};

/// The `code` label of a request without errors.
const OK: &str = "OK";

const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const STATEMENTS: [f64; 8] = [1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 20.0, 50.0];

/// A label whose values the code lists.
type FixedLabel = [(&'static str, &'static str); 1];

/// Labels whose values come from requests or settings.
type Labels<const COUNT: usize> = [(&'static str, String); COUNT];

/// Values that are read when metrics are scraped, not counted as events happen.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The state of each pool.
    pub pools: Vec<PoolState>,
    /// Requests that are admitted and running.
    pub running: usize,
    /// Requests that wait for admission.
    pub waiting: usize,
    /// Queues of background work: name, number of entries, and age of the oldest in seconds. Empty
    /// when the database did not answer.
    pub backlog: Vec<(&'static str, i64, i64)>,
}

/// The metrics of a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    operations: Operations,
    requests: Family<Labels<2>, Counter>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    statements: Histogram,
    retries: Counter,
    replays: Counter,
    replica_queries: Family<FixedLabel, Counter>,
    limits: Family<FixedLabel, Counter>,
    subscriptions: Gauge,
    leases: Counter,
    leased: Counter,
    webhooks: Family<FixedLabel, Counter>,
    seat_changes: Family<FixedLabel, Counter>,
    pools: Family<Labels<2>, Gauge>,
    running: Gauge,
    waiting: Gauge,
    backlog: Family<FixedLabel, Gauge>,
    oldest: Family<FixedLabel, Gauge>,
    memory: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all metrics, with every counter at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tenantry");
        let shared = Shared {
            requests: register(
                &mut registry,
                "requests",
                "GraphQL operations by name and error code",
            ),
            durations: add(
                &mut registry,
                (
                    "request_duration",
                    "Time from reading a request to its response",
                    Some(Unit::Seconds),
                ),
                Family::new_with_constructor(|| Histogram::new(SECONDS)),
            ),
            statements: add(
                &mut registry,
                ("request_statements", "Messages sent to the database per request", None),
                Histogram::new(STATEMENTS),
            ),
            retries: register(
                &mut registry,
                "request_retries",
                "Mutations retried after a conflict with another change",
            ),
            replays: register(
                &mut registry,
                "idempotent_replays",
                "Mutations answered with a stored response",
            ),
            replica_queries: register(
                &mut registry,
                "replica_queries",
                "Queries that a replica may answer, by serving database",
            ),
            limits: register(&mut registry, "limits_hit", "Requests refused by a limit"),
            subscriptions: register(&mut registry, "subscriptions_open", "Open subscriptions"),
            leases: register(
                &mut registry,
                "call_leases",
                "Blocks of API calls leased from the database",
            ),
            leased: register(&mut registry, "calls_leased", "API calls in the leased blocks"),
            webhooks: register(
                &mut registry,
                "webhooks",
                "Webhooks received from Stripe, by outcome",
            ),
            seat_changes: register(
                &mut registry,
                "seat_changes",
                "Changes of seats at Stripe, by outcome of an attempt",
            ),
            pools: register(
                &mut registry,
                "pool_connections",
                "Database connections and waiting requests, by pool",
            ),
            running: register(
                &mut registry,
                "sessions_open",
                "Requests that are admitted and running",
            ),
            waiting: register(
                &mut registry,
                "requests_waiting",
                "Requests that wait for admission",
            ),
            backlog: register(&mut registry, "backlog", "Entries that wait for background work"),
            oldest: add(
                &mut registry,
                ("backlog_age", "Age of the oldest waiting entry", Some(Unit::Seconds)),
                Family::default(),
            ),
            memory: add(
                &mut registry,
                ("memory", "Resident memory of the process", Some(Unit::Bytes)),
                Gauge::default(),
            ),
            operations: Operations::default(),
            registry,
        };
        begin_at_zero(&shared.webhooks, &["applied", "ignored", "problem", "failed", "refused"]);
        begin_at_zero(&shared.seat_changes, &["done", "retried", "given_up", "not_needed"]);
        Self(Arc::new(shared))
    }

    /// Counts a finished operation, with the code of its first error if there is one.
    pub(crate) fn answered(
        &self,
        operation: Option<&str>,
        code: Option<&str>,
        took: Duration,
        statements: u32,
    ) {
        let Shared { operations, requests, durations, statements: counts, .. } = self.0.as_ref();
        let record = |name: &str| {
            durations.get_or_create(&of_operation(name)).observe(took.as_secs_f64());
            requests.get_or_create(&of_request(name, code.unwrap_or(OK))).inc();
        };
        operations.record(operation, |name| self.forget(name), record);
        counts.observe(statements.into());
    }

    /// Removes the series of an operation name.
    fn forget(&self, name: &str) {
        self.0.durations.remove(&of_operation(name));
        let codes = ErrorCode::items().iter().map(|item| item.value.name());
        for code in codes.chain([OK]) {
            self.0.requests.remove(&of_request(name, code));
        }
    }

    /// Counts a request that was refused before execution.
    pub fn refused(&self, code: &str) {
        self.0.requests.get_or_create(&of_request(OTHER, code)).inc();
    }

    /// Counts an error that comes from a limit; ignores every other error.
    pub fn limited(&self, error: &Error) {
        let limit = match error {
            Error::RateLimited { throttle, .. } => match throttle {
                Throttle::Running => "running",
                Throttle::Waiting => "waiting",
                Throttle::Shared => "shared",
                Throttle::Rate => "rate",
                Throttle::Attempts => "attempts",
                Throttle::SubscriptionsOfUser | Throttle::SubscriptionsOfOrganization => {
                    "subscriptions"
                }
                Throttle::InvitationMails => "invitation_mails",
            },
            Error::CallsExhausted(_) => "calls",
            Error::Timeout => "time",
            _ => return,
        };
        self.0.limits.get_or_create(&[("limit", limit)]).inc();
    }

    /// Counts a retry of a mutation.
    pub(crate) fn retried(&self) {
        self.0.retries.inc();
    }

    /// Counts a replay of a stored response.
    pub(crate) fn replayed(&self) {
        self.0.replays.inc();
    }

    /// Counts a query that a replica may answer.
    pub fn replica_query(&self, served_by: &'static str) {
        self.0.replica_queries.get_or_create(&[("served_by", served_by)]).inc();
    }

    /// Counts a subscription as open until the returned guard is dropped.
    #[must_use]
    pub(crate) fn subscription(&self) -> Watching {
        self.0.subscriptions.inc();
        Watching(self.clone())
    }

    /// Counts a leased block of API calls.
    pub(crate) fn leased(&self, calls: u64) {
        self.0.leases.inc();
        self.0.leased.inc_by(calls);
    }

    /// Counts a webhook from Stripe.
    pub(crate) fn webhook(&self, outcome: &'static str) {
        self.0.webhooks.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts an attempt to set the seats of a subscription at Stripe.
    pub(crate) fn seat_change(&self, outcome: &'static str) {
        self.0.seat_changes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Encodes all metrics as text.
    #[must_use]
    pub fn text(&self, now: &Snapshot) -> String {
        let shared = self.0.as_ref();
        for pool in &now.pools {
            for (state, count) in
                [("busy", pool.busy), ("idle", pool.idle), ("waiting", pool.waiting)]
            {
                let labels = [("pool", pool.name.clone()), ("state", state.to_owned())];
                set(&shared.pools.get_or_create(&labels), count);
            }
        }
        set(&shared.running, now.running);
        set(&shared.waiting, now.waiting);
        shared.backlog.clear();
        shared.oldest.clear();
        for (queue, count, age) in &now.backlog {
            shared.backlog.get_or_create(&[("queue", *queue)]).set(*count);
            shared.oldest.get_or_create(&[("queue", *queue)]).set(*age);
        }
        shared.memory.set(resident_bytes());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &shared.registry);
        text
    }
}

/// Counts one open subscription while it lives.
#[derive(Debug)]
pub struct Watching(Metrics);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.0.subscriptions.dec();
    }
}

fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    add(registry, (name, help, None), M::default())
}

fn add<M: Metric + Clone>(
    registry: &mut Registry,
    (name, help, unit): (&str, &str, Option<Unit>),
    metric: M,
) -> M {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}

/// Alerts compare a counter with its earlier value, so it must exist before the first event.
fn begin_at_zero(family: &Family<FixedLabel, Counter>, outcomes: &[&'static str]) {
    for outcome in outcomes {
        drop(family.get_or_create(&[("outcome", *outcome)]));
    }
}

fn of_operation(name: &str) -> Labels<1> {
    [("operation", name.to_owned())]
}

fn of_request(operation: &str, code: &str) -> Labels<2> {
    [("operation", operation.to_owned()), ("code", code.to_owned())]
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// The resident memory of this process on Linux; 0 on other systems.
fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<i64>().ok());
    kibibytes.unwrap_or_default() * 1024
}
