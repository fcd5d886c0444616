//! Checks of every response, and checks that are possible only at the end.

use std::{collections::BTreeMap, time::Instant};

use pg::Row;
use uuid::Uuid;

use super::{Harness, Request, ownership::Viewpoint, responses};
use crate::support::{Reply, database::RowExt};

impl Harness {
    /// Checks what holds for every response, and counts the response.
    pub fn check(&self, request: &Request, reply: &Reply, organization: Option<usize>, since: u64) {
        let sent = request.sent();
        let viewpoint = Viewpoint { caller: request.caller, organization, sent: &sent, since };
        let mut ownership = self.ownership.lock().unwrap();
        let leak = ownership.inspect(&viewpoint, &reply.body);
        for response in ownership.unknown.values_mut().filter(|response| response.is_empty()) {
            *response = format!("{request:?}: {}", reply.text);
        }
        drop(ownership);
        if let Err(leak) = leak {
            self.fail(request, reply, &leak);
        }
        if let Some(fault) = responses::protocol_error(reply, &self.schema.error_codes) {
            self.fail(request, reply, &fault);
        }
        let (own, read_back) = responses::codes(reply);
        let outcome = own.first().or(read_back.first()).map_or("ok", |code| code);
        *self.outcomes.lock().unwrap().entry(outcome.to_owned()).or_default() += 1;
    }

    pub fn fail(&self, request: &Request, reply: &Reply, why: &str) -> ! {
        let tag = &self.users[request.caller].tag;
        panic!(
            "ISOLATION_SEED={}: {why}\n{request:#?}\nby {tag}: {} {}",
            self.seed, reply.status, reply.text
        );
    }

    /// Resolves the ids whose owner was unknown when they were seen, with the database.
    pub async fn resolve_unknown_ids(&self) {
        let connection = self.app.database.connect_admin().await;
        let rows = connection
            .query::<Row>("SELECT id, organization_id FROM audit.audit_logs
                 UNION SELECT resource_id, organization_id FROM audit.audit_logs WHERE resource_id IS NOT NULL
                 UNION SELECT id, organization_id FROM auth.invitations
                 UNION SELECT id, organization_id FROM auth.organization_members", &[])
            .await
            .unwrap();
        let owners: BTreeMap<Uuid, Uuid> =
            rows.iter().map(|row| (row.get("id"), row.get("organization_id"))).collect();
        let mut ids = BTreeMap::new();
        for organization in &self.shared.read().await.organizations {
            let organization = organization.read().await;
            ids.insert(organization.id, organization.index);
        }
        let ownership = self.ownership.lock().unwrap();
        for ((here, id), response) in &ownership.unknown {
            // The response that showed an id may also have created it.
            let owner = ownership
                .organization_of(*id)
                .or_else(|| owners.get(id).and_then(|owner| ids.get(owner)).copied());
            let allowed = owner.is_some_and(|owner| here.contains(&owner));
            assert!(
                allowed,
                "ISOLATION_SEED={}: {id} is of {owner:?}, seen in {here:?}: {response}",
                self.seed
            );
        }
        assert!(!ownership.unknown.is_empty(), "no response showed an audit entry");
    }

    /// Returns a summary of the run in one line.
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
            "isolation model: {count} operations in {:.1} s, ISOLATION_SEED={}: {ok} succeeded, {} rejected: {}",
            start.elapsed().as_secs_f32(),
            self.seed,
            count - ok,
            codes.join(", ")
        )
    }
}
