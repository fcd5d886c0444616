//! Holds what clients were told against what the database has.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::Write as _,
    sync::{Arc, atomic::Ordering},
};

use sqlx::{Connection, PgConnection};

use super::load::{Book, Fate};
use crate::support::cluster::Cluster;

/// A project or an entry of the audit log: where it is, what it is called, which project it is of.
type Rows = HashMap<String, Vec<(String, String)>>;

/// What came of a scenario, for people.
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
    /// On the error stream itself, where nobody holds it back.
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

/// One line that is seen whatever becomes of the test.
pub fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "faults: {what}");
}

/// Every acknowledged write is there once with exactly one entry in the log, every refused one is
/// not, every unknown one is there as a whole or not at all; nothing else is there, and everything
/// is where it belongs.
pub async fn verify(cluster: &Cluster, book: &Arc<Book>) -> Figures {
    let wrong = book.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "{} wrong answers, the first: {}", wrong.len(), wrong[0]);
    let (projects, logs) = rows(cluster).await;
    let writes = book.writes.lock().unwrap();
    let (mut acknowledged, mut unknown, mut unknown_written) = (0, 0, 0);
    let mut refused = BTreeMap::new();
    let none = Vec::new();
    for (name, write) in writes.iter() {
        let there = projects.get(name).unwrap_or(&none);
        let told = logs.get(name).unwrap_or(&none);
        let marked = there.iter().chain(told).all(|(slug, _)| slug == write.tenant);
        assert!(marked, "{name} is in another tenant: {there:?} {told:?}");
        let whole = there.len() == 1 && told.len() == 1 && there[0].1 == told[0].1;
        let nothing = there.is_empty() && told.is_empty();
        match &write.fate {
            Fate::Acknowledged(id) => {
                acknowledged += 1;
                assert!(whole && there[0].1 == *id, "{name} was acknowledged: {there:?} {told:?}");
            }
            Fate::Refused(code) => {
                *refused.entry(code.clone()).or_default() += 1;
                assert!(nothing, "{name} was refused ({code}): {there:?} {told:?}");
            }
            Fate::Unknown => {
                unknown += 1;
                unknown_written += usize::from(whole);
                assert!(whole || nothing, "{name} is there by half: {there:?} {told:?}");
            }
        }
    }
    for name in projects.keys().chain(logs.keys()) {
        assert!(writes.contains_key(name), "{name} was never asked for");
    }
    assert!(acknowledged > 0, "nothing was ever written: the test shows nothing");
    Figures {
        requests: writes.len(),
        acknowledged,
        refused,
        unknown,
        unknown_written,
        reads: book.reads.load(Ordering::Relaxed),
        failed_reads: book.failed_reads.load(Ordering::Relaxed),
    }
}

/// What the load has made, of one moment: names of its projects hold a hyphen, those of the demo
/// none.
async fn rows(cluster: &Cluster) -> (Rows, Rows) {
    let mut connection = cluster.connect_admin().await;
    let mut snapshot = connection.begin().await.unwrap();
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        .execute(&mut *snapshot)
        .await
        .unwrap();
    let projects = by_name(
        &mut snapshot,
        "SELECT p.name, o.slug, p.id::text FROM app.projects p JOIN app.organizations o ON o.id = p.organization_id
         WHERE p.name LIKE '%-%'",
    )
    .await;
    let logs = by_name(
        &mut snapshot,
        "SELECT l.metadata->>'name', o.slug, l.resource_id::text FROM audit.audit_logs l
         JOIN app.organizations o ON o.id = l.organization_id
         WHERE l.action = 'project.created' AND l.metadata->>'name' LIKE '%-%'",
    )
    .await;
    (projects, logs)
}

async fn by_name(connection: &mut PgConnection, sql: &'static str) -> Rows {
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql).fetch_all(connection).await.unwrap();
    let mut by_name = Rows::new();
    for (name, slug, id) in rows {
        by_name.entry(name).or_default().push((slug, id));
    }
    by_name
}
