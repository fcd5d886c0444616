//! What is checked of every answer, and what can only be checked once all is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use sqlx::{Executor, Row};
use uuid::Uuid;

use super::{Attempt, Wall, register::Sight, reply};
use crate::support::Reply;

impl Wall {
    /// Holds an answer against what is true of all, and counts it.
    pub fn check(&self, attempt: &Attempt, reply: &Reply, organization: Option<usize>, since: u64) {
        let sent = attempt.sent();
        let sight = Sight { caller: attempt.caller, organization, sent: &sent, since };
        let mut register = self.register.lock().unwrap();
        let crossed = register.inspect(&sight, &reply.body);
        for told in register.unknown.values_mut().filter(|told| told.is_empty()) {
            *told = format!("{attempt:?}: {}", reply.text);
        }
        drop(register);
        if let Err(crossed) = crossed {
            self.fail(attempt, reply, &crossed);
        }
        if let Some(fault) = reply::misshapen(reply, &self.schema.error_codes) {
            self.fail(attempt, reply, &fault);
        }
        let (own, read_back) = reply::codes(reply);
        let outcome = own.first().or(read_back.first()).map_or("ok", |code| code);
        *self.outcomes.lock().unwrap().entry(outcome.to_owned()).or_default() += 1;
    }

    pub fn fail(&self, attempt: &Attempt, reply: &Reply, why: &str) -> ! {
        let tag = &self.people[attempt.caller].tag;
        panic!(
            "WALL_SEED={}: {why}\n{attempt:#?}\nby {tag}: {} {}",
            self.seed, reply.status, reply.text
        );
    }

    /// Ids that nobody knew when they were seen: the database says whose they are.
    pub async fn settle_unknown(&self) {
        let mut connection = self.app.database.connect_admin().await;
        let rows = connection
            .fetch_all(
                "SELECT id, organization_id FROM audit.audit_logs
                 UNION SELECT resource_id, organization_id FROM audit.audit_logs WHERE resource_id IS NOT NULL
                 UNION SELECT id, organization_id FROM auth.invitations
                 UNION SELECT id, organization_id FROM auth.organization_members",
            )
            .await
            .unwrap();
        let owners: BTreeMap<Uuid, Uuid> =
            rows.iter().map(|row| (row.get("id"), row.get("organization_id"))).collect();
        // The ids of identities are those of no organization.
        let identities: BTreeSet<Uuid> = sqlx::query_scalar(
            "SELECT encode(substring(auth.identity_digest(issuer, subject) FOR 16), 'hex')::uuid
             FROM auth.identities",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap()
        .into_iter()
        .collect();
        let mut ids = BTreeMap::new();
        for organization in &self.globe.read().await.organizations {
            let organization = organization.read().await;
            ids.insert(organization.id, organization.index);
        }
        let register = self.register.lock().unwrap();
        for ((here, id), told) in &register.unknown {
            if identities.contains(id) {
                continue;
            }
            // Some were made by the very answer that showed them.
            let owner = register
                .organization_of(*id)
                .or_else(|| owners.get(id).and_then(|owner| ids.get(owner)).copied());
            let fine = owner.is_some_and(|owner| here.contains(&owner));
            assert!(
                fine,
                "WALL_SEED={}: {id} is of {owner:?}, seen in {here:?}: {told}",
                self.seed
            );
        }
        assert!(!register.unknown.is_empty(), "nobody ever saw an entry of the audit log");
    }

    /// One line about the run.
    pub fn summary(&self, start: Instant) -> String {
        let outcomes = self.outcomes.lock().unwrap();
        let count: usize = outcomes.values().sum();
        let ok = outcomes.get("ok").copied().unwrap_or_default();
        let codes: Vec<String> = outcomes
            .iter()
            .filter(|(code, _)| *code != "ok")
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        format!(
            "wall: {count} operations in {:.1} s, WALL_SEED={}: {ok} succeeded, {} refused: {}",
            start.elapsed().as_secs_f32(),
            self.seed,
            count - ok,
            codes.join(", ")
        )
    }
}
