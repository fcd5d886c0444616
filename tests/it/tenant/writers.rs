//! Clients that write in acme without a pause, and a record of the successful responses.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use super::{ACME, table_in_placement};
use crate::support::{App, Client, database::Database};

const CREATE: &str =
    "mutation ($name: String!) { createProject(input: { name: $name }) { project { id } } }";
const UPDATE: &str = "mutation ($id: ID!, $name: String!) { updateProject(input: { id: $id, name: $name }) { project { id } } }";
const DELETE: &str = "mutation ($id: ID!) { deleteProject(input: { id: $id }) { project { id } } }";
const RENAME: &str = "mutation ($name: String!) { updateOrganization(input: { name: $name }) { organization { id } } }";
const INVITE: &str = "mutation ($email: String!) { inviteMember(input: { email: $email, role: VIEWER }) { invitation { id } } }";
const REVOKE: &str =
    "mutation ($id: ID!) { revokeInvitation(input: { id: $id }) { invitation { id } } }";

/// The rows that must exist according to the responses.
#[derive(Default)]
pub struct WriteLog {
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
    write_log: Arc<Mutex<WriteLog>>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Writers {
    pub fn start(app: &App, count: u32) -> Self {
        let (write_log, stop) =
            (Arc::new(Mutex::new(WriteLog::default())), watch::Sender::new(false));
        let mut clients = JoinSet::new();
        for writer in 0..count {
            let writer = Writer {
                name: format!("w{writer}"),
                client: app.user("acme-owner"),
                write_log: Arc::clone(&write_log),
            };
            clients.spawn(writer.run_writer(stop.subscribe()));
        }
        Self { write_log, stop, clients }
    }

    pub fn writes(&self) -> u32 {
        self.write_log.lock().unwrap().writes
    }

    pub async fn stop(mut self) -> WriteLog {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut self.write_log.lock().unwrap())
    }
}

struct Writer {
    name: String,
    client: Client,
    write_log: Arc<Mutex<WriteLog>>,
}

impl Writer {
    async fn run_writer(self, stop: watch::Receiver<bool>) {
        for number in 0_u32.. {
            if *stop.borrow() {
                return;
            }
            let name = format!("{} {number}", self.name);
            let id = self.ask(CREATE, json!({ "name": name }), "project.created").await;
            let id = id["createProject"]["project"]["id"].as_str().unwrap().to_owned();
            self.note(|write_log| drop(write_log.projects.insert(id.clone(), name.clone())));
            match number % 4 {
                0 => {
                    let name = format!("{name} renamed");
                    self.ask(UPDATE, json!({ "id": id, "name": name }), "project.updated").await;
                    self.note(|write_log| drop(write_log.projects.insert(id, name)));
                }
                1 => {
                    self.ask(DELETE, json!({ "id": id }), "project.deleted").await;
                    self.note(|write_log| drop(write_log.projects.remove(&id)));
                }
                // Revoked and created again, because an open invitation would conflict.
                2 => {
                    let email = format!("{}@example.com", self.name);
                    let invited =
                        self.ask(INVITE, json!({ "email": email }), "invitation.created").await;
                    let id =
                        invited["inviteMember"]["invitation"]["id"].as_str().unwrap().to_owned();
                    self.note(|write_log| {
                        write_log.invitations.insert(id.clone(), true);
                    });
                    self.ask(REVOKE, json!({ "id": id }), "invitation.revoked").await;
                    self.note(|write_log| {
                        write_log.invitations.insert(id, false);
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

    /// Sends a mutation that must succeed, regardless of what happens to the organization
    /// meanwhile.
    async fn ask(
        &self,
        query: &str,
        variables: serde_json::Value,
        action: &'static str,
    ) -> serde_json::Value {
        let started = Instant::now();
        let data = self.client.query_with(query, variables).await.data();
        self.note(|write_log| {
            *write_log.entries.entry(action).or_default() += 1;
            write_log.slowest = write_log.slowest.max(started.elapsed());
            write_log.writes += 1;
        });
        data
    }

    fn note(&self, note: impl FnOnce(&mut WriteLog)) {
        note(&mut self.write_log.lock().unwrap());
    }
}

impl WriteLog {
    /// Asserts that no row is lost, duplicated or changed in acme's current placement.
    pub async fn check(&self, database: &Database) {
        assert!(self.writes > 0);
        let projects: BTreeMap<String, String> =
            self.pairs(database, "app.projects", "id::text, name", "name ~ '^w\\d'").await;
        assert_eq!(projects, self.projects);
        let open = "id::text, (revoked_at IS NULL)::text";
        let invitations = self.pairs(database, "auth.invitations", open, "true").await;
        let expected = self.invitations.iter().map(|(id, open)| (id.clone(), open.to_string()));
        assert_eq!(invitations, expected.collect());
        let log = table_in_placement(database, "audit.audit_logs").await;
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
        let table = table_in_placement(database, table).await;
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE organization_id = '{ACME}' AND {condition}"
        );
        let connection = database.connect_admin().await;
        let rows: Vec<(String, String)> = connection.query(&sql, &[]).await.unwrap();
        let count = rows.len();
        let pairs: BTreeMap<_, _> = rows.into_iter().collect();
        assert_eq!(pairs.len(), count);
        pairs
    }
}
