//! Clients who write in acme without a pause, and the book that they keep of what they were told is
//! done.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::AssertSqlSafe;
use tokio::{sync::watch, task::JoinSet};

use super::{ACME, at_home};
use crate::support::{App, Client, database::Database};

const CREATE: &str =
    "mutation ($name: String!) { createProject(input: { name: $name }) { project { id } } }";
const UPDATE: &str = "mutation ($id: ID!, $name: String!) { updateProject(input: { id: $id, name: $name }) { project { id } } }";
const DELETE: &str = "mutation ($id: ID!) { deleteProject(input: { id: $id }) { project { id } } }";
const RENAME: &str = "mutation ($name: String!) { updateOrganization(input: { name: $name }) { organization { id } } }";
const INVITE: &str = "mutation ($email: String!) { inviteMember(input: { email: $email, role: VIEWER }) { invitation { id } } }";
const REVOKE: &str =
    "mutation ($id: ID!) { revokeInvitation(input: { id: $id }) { invitation { id } } }";

/// What is to be there, as far as clients were told.
#[derive(Default)]
pub struct Book {
    /// Names by id.
    projects: BTreeMap<String, String>,
    /// Entries by action.
    entries: BTreeMap<&'static str, i64>,
    /// Open and revoked ones.
    invitations: BTreeMap<String, bool>,
    pub slowest: Duration,
    pub writes: u32,
}

pub struct Writers {
    book: Arc<Mutex<Book>>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Writers {
    pub fn start(app: &App, count: u32) -> Self {
        let (book, stop) = (Arc::new(Mutex::new(Book::default())), watch::Sender::new(false));
        let mut clients = JoinSet::new();
        for writer in 0..count {
            let writer = Writer {
                name: format!("w{writer}"),
                client: app.person("acme-owner"),
                book: Arc::clone(&book),
            };
            clients.spawn(writer.go_on(stop.subscribe()));
        }
        Self { book, stop, clients }
    }

    pub fn writes(&self) -> u32 {
        self.book.lock().unwrap().writes
    }

    pub async fn stop(mut self) -> Book {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut self.book.lock().unwrap())
    }
}

struct Writer {
    name: String,
    client: Client,
    book: Arc<Mutex<Book>>,
}

impl Writer {
    async fn go_on(self, stop: watch::Receiver<bool>) {
        for number in 0_u32.. {
            if *stop.borrow() {
                return;
            }
            let name = format!("{} {number}", self.name);
            let id = self.ask(CREATE, json!({ "name": name }), "project.created").await;
            let id = id["createProject"]["project"]["id"].as_str().unwrap().to_owned();
            self.note(|book| drop(book.projects.insert(id.clone(), name.clone())));
            match number % 4 {
                0 => {
                    let name = format!("{name} renamed");
                    self.ask(UPDATE, json!({ "id": id, "name": name }), "project.updated").await;
                    self.note(|book| drop(book.projects.insert(id, name)));
                }
                1 => {
                    self.ask(DELETE, json!({ "id": id }), "project.deleted").await;
                    self.note(|book| drop(book.projects.remove(&id)));
                }
                // Taken back and made again: one is in the way of the other.
                2 => {
                    let email = format!("{}@example.com", self.name);
                    let invited =
                        self.ask(INVITE, json!({ "email": email }), "invitation.created").await;
                    let id =
                        invited["inviteMember"]["invitation"]["id"].as_str().unwrap().to_owned();
                    self.note(|book| {
                        book.invitations.insert(id.clone(), true);
                    });
                    self.ask(REVOKE, json!({ "id": id }), "invitation.revoked").await;
                    self.note(|book| {
                        book.invitations.insert(id, false);
                    });
                }
                _ => {
                    self.ask(
                        RENAME,
                        json!({ "name": format!("Acme {name}") }),
                        "organization.updated",
                    )
                    .await;
                }
            }
        }
    }

    /// Whatever happens to the organization meanwhile, nobody is refused.
    async fn ask(
        &self,
        query: &str,
        variables: serde_json::Value,
        action: &'static str,
    ) -> serde_json::Value {
        let begun = Instant::now();
        let data = self.client.query_with(query, variables).await.data();
        self.note(|book| {
            *book.entries.entry(action).or_default() += 1;
            book.slowest = book.slowest.max(begun.elapsed());
            book.writes += 1;
        });
        data
    }

    fn note(&self, note: impl FnOnce(&mut Book)) {
        note(&mut self.book.lock().unwrap());
    }
}

impl Book {
    /// Nothing is lost, doubled or changed, where acme lives now.
    pub async fn check(&self, database: &Database) {
        assert!(self.writes > 0);
        let projects: BTreeMap<String, String> =
            self.pairs(database, "app.projects", "id::text, name", "name ~ '^w\\d'").await;
        assert_eq!(projects, self.projects);
        let open = "id::text, (revoked_at IS NULL)::text";
        let invitations = self.pairs(database, "auth.invitations", open, "true").await;
        let expected = self.invitations.iter().map(|(id, open)| (id.clone(), open.to_string()));
        assert_eq!(invitations, expected.collect());
        let log = at_home(database, "audit.audit_logs").await;
        for (action, count) in &self.entries {
            let entries: i64 = database
                .value(&format!(
                    "SELECT count(*) FROM {log} WHERE organization_id = '{ACME}' AND action = '{action}' AND ip_address IS NOT NULL
                         AND coalesce(metadata->>'name', '') NOT IN ('Rocket skates', 'Giant magnet', 'Portable hole', 'Instant tunnel')"
                ))
                .await;
            assert_eq!(entries, *count, "{action}");
        }
    }

    async fn pairs(
        &self,
        database: &Database,
        table: &str,
        columns: &str,
        condition: &str,
    ) -> BTreeMap<String, String> {
        let table = at_home(database, table).await;
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE organization_id = '{ACME}' AND {condition}"
        );
        let mut connection = database.connect_admin().await;
        let rows: Vec<(String, String)> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
        let count = rows.len();
        let pairs: BTreeMap<_, _> = rows.into_iter().collect();
        assert_eq!(pairs.len(), count);
        pairs
    }
}
