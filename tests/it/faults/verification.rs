//! Compares the responses that clients got with the rows in the database.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::Write as _,
    sync::{Arc, atomic::Ordering},
};

use pg::Client;

use super::load::{WriteLog, WriteOutcome};
use crate::support::cluster::Cluster;

/// Projects or audit entries by name: the organization's slug and the project's id.
type Rows = HashMap<String, Vec<(String, String)>>;

/// The figures of a scenario, for printing.
pub struct Figures {
    requests: usize,
    acknowledged: usize,
    refused: BTreeMap<String, usize>,
    unknown: usize,
    unknown_written: usize,
    reads: u32,
    failed_reads: u32,
}

impl Figures {
    /// Prints to stderr directly, which the test harness does not capture.
    pub fn print(&self, scenario: &str, rest: impl fmt::Display) {
        let Self { requests, acknowledged, unknown, unknown_written, reads, failed_reads, .. } =
            self;
        let refused: usize = self.refused.values().sum();
        let codes: Vec<_> =
            self.refused.iter().map(|(code, count)| format!("{code} {count}")).collect();
        say(format_args!(
            "{scenario}: {requests} writes, {acknowledged} acknowledged, {refused} refused ({}), {unknown} unknown \
             ({unknown_written} of them written), {reads} reads answered, {failed_reads} failed, {rest}",
            codes.join(", ")
        ));
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    pub fn unknown(&self) -> usize {
        self.unknown
    }

    pub fn unknown_written(&self) -> usize {
        self.unknown_written
    }

    pub fn refused(&self) -> usize {
        self.refused.values().sum()
    }
}

/// Prints one line even if the test passes.
pub fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "faults: {what}");
}

/// Asserts that every acknowledged write exists once with exactly one audit entry, that no rejected
/// write exists, that every unknown one exists completely or not at all, that nothing else exists,
/// and that each row belongs to the right organization.
pub async fn verify(cluster: &Cluster, write_log: &Arc<WriteLog>) -> Figures {
    let wrong = write_log.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "{} wrong responses, the first: {}", wrong.len(), wrong[0]);
    let (projects, logs) = rows(cluster).await;
    let writes = write_log.writes.lock().unwrap();
    let (mut acknowledged, mut unknown, mut unknown_written) = (0, 0, 0);
    let mut refused = BTreeMap::new();
    let none = Vec::new();
    for (name, write) in writes.iter() {
        let there = projects.get(name).unwrap_or(&none);
        let entries = logs.get(name).unwrap_or(&none);
        let marked = there.iter().chain(entries).all(|(slug, _)| slug == write.tenant);
        assert!(marked, "{name} is in another tenant: {there:?} {entries:?}");
        let complete = there.len() == 1 && entries.len() == 1 && there[0].1 == entries[0].1;
        let nothing = there.is_empty() && entries.is_empty();
        match &write.outcome {
            WriteOutcome::Acknowledged(id) => {
                acknowledged += 1;
                assert!(
                    complete && there[0].1 == *id,
                    "{name} was acknowledged: {there:?} {entries:?}"
                );
            }
            WriteOutcome::Refused(code) => {
                *refused.entry(code.clone()).or_default() += 1;
                assert!(nothing, "{name} was refused ({code}): {there:?} {entries:?}");
            }
            WriteOutcome::Unknown => {
                unknown += 1;
                unknown_written += usize::from(complete);
                assert!(complete || nothing, "{name} exists in part: {there:?} {entries:?}");
            }
        }
    }
    for name in projects.keys().chain(logs.keys()) {
        assert!(writes.contains_key(name), "{name} was never requested");
    }
    assert!(acknowledged > 0, "nothing was ever written, so the test shows nothing");
    Figures {
        requests: writes.len(),
        acknowledged,
        refused,
        unknown,
        unknown_written,
        reads: write_log.reads.load(Ordering::Relaxed),
        failed_reads: write_log.failed_reads.load(Ordering::Relaxed),
    }
}

/// Returns the rows that the load created, in one snapshot. Names of its projects contain a hyphen,
/// and those of the demo do not.
async fn rows(cluster: &Cluster) -> (Rows, Rows) {
    let mut connection = cluster.connect_admin().await;
    let snapshot = connection.begin().await.unwrap();
    snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", &[]).await.unwrap();
    let projects = by_name(
        &snapshot,
        "SELECT p.name, o.slug, p.id::text FROM app.projects p JOIN app.organizations o ON o.id = p.organization_id
         WHERE p.name LIKE '%-%'",
    )
    .await;
    let logs = by_name(
        &snapshot,
        "SELECT l.metadata->>'name', o.slug, l.resource_id::text FROM audit.audit_logs l
         JOIN app.organizations o ON o.id = l.organization_id
         WHERE l.action = 'project.created' AND l.metadata->>'name' LIKE '%-%'",
    )
    .await;
    (projects, logs)
}

async fn by_name(connection: &Client, sql: &'static str) -> Rows {
    let rows: Vec<(String, String, String)> = connection.query(sql, &[]).await.unwrap();
    let mut by_name = Rows::new();
    for (name, slug, id) in rows {
        by_name.entry(name).or_default().push((slug, id));
    }
    by_name
}
