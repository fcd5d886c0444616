//! One operation whose outcome is known beforehand: whatever changes an organization has it to
//! itself meanwhile.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};
use uuid::Uuid;

use super::{
    Attempt, Globe, Wall,
    draft::{Place, Standing},
    model::{Organization, Role},
    register::new_tag,
    reply,
};
use crate::support::Reply;

impl Wall {
    pub async fn step(&self, number: usize) {
        let mut rng = self.rng(number);
        match rng.u8(..100) {
            0..4 => self.change_the_globe(number, &mut rng).await,
            4..16 => self.accept(number, &mut rng).await,
            16..54 => self.change(number, &mut rng).await,
            54..67 => self.look_up(number, &mut rng).await,
            67..75 => self.take_stock(number, &mut rng).await,
            _ => self.read(number, &mut rng).await,
        }
    }

    async fn shared(&self, globe: &Globe, rng: &mut Rng) -> OwnedRwLockReadGuard<Organization> {
        loop {
            let organization = Arc::clone(rng.choice(&globe.organizations).unwrap());
            let organization = organization.read_owned().await;
            // An ended one is asked for now and then.
            if !organization.ended || rng.u8(..50) == 0 {
                return organization;
            }
        }
    }

    pub async fn exclusive(
        &self,
        globe: &Globe,
        rng: &mut Rng,
    ) -> OwnedRwLockWriteGuard<Organization> {
        loop {
            let organization = Arc::clone(rng.choice(&globe.organizations).unwrap());
            let organization = organization.write_owned().await;
            if !organization.ended || rng.u8(..50) == 0 {
                return organization;
            }
        }
    }

    pub fn now(&self) -> u64 {
        self.register.lock().unwrap().tick()
    }

    /// Any query.
    async fn read(&self, number: usize, rng: &mut Rng) {
        let globe = self.globe.read().await;
        let here = self.shared(&globe, rng).await;
        let mut draft = self.draft(rng, &here);
        let caller = draft.caller();
        let (place, standing) = draft.place(&globe.slugs, caller);
        let document = draft.query();
        let attempt = Attempt { number, caller, place, document, variables: json!({}) };
        let reply = self.ask(&attempt, &here, standing).await;
        let Standing::Inside(role) = standing else { return };
        if let Some(why) = reply::indiscreet(&reply, &here, &self.people, caller, role) {
            self.fail(&attempt, &reply, &why);
        }
        let fine = |code: &&str| ["FORBIDDEN", "QUERY_TOO_COMPLEX"].contains(code);
        if !reply::codes(&reply).0.iter().all(fine) {
            self.fail(&attempt, &reply, "a query that should succeed");
        }
    }

    /// Sends a query; it is refused as a whole where the caller does not belong.
    async fn ask(&self, attempt: &Attempt, here: &Organization, standing: Standing) -> Reply {
        let since = self.now();
        let reply = self.send(attempt).await;
        let inside = matches!(standing, Standing::Inside(_));
        self.check(attempt, &reply, inside.then_some(here.index), since);
        if self.stopped(attempt, &reply, standing).await {
            return reply;
        }
        if standing == Standing::Nowhere
            && reply.body["data"].get("organization").is_some_and(|found| !found.is_null())
        {
            self.fail(attempt, &reply, "an organization from nowhere");
        }
        reply
    }

    /// Whether the request ended at the door, as it must; an unknown door looks the same.
    pub async fn stopped(&self, attempt: &Attempt, reply: &Reply, standing: Standing) -> bool {
        let expected = match standing {
            Standing::Outside => (404, "NOT_FOUND"),
            Standing::Mismatch => (403, "ORGANIZATION_MISMATCH"),
            _ => return false,
        };
        let got = (reply.status.as_u16(), reply.codes());
        // A document that is refused never comes to the door.
        if got == (400, vec!["QUERY_TOO_COMPLEX"]) {
            return true;
        }
        if got != (expected.0, vec![expected.1]) || reply.body.get("data").is_some() {
            self.fail(attempt, reply, "not stopped at the door");
        }
        if standing == Standing::Outside && attempt.number.is_multiple_of(4) {
            let slug = Some(new_tag(&mut self.rng(attempt.number)));
            let unknown = Attempt { place: Place { slug, claim: None }, ..attempt.clone() };
            let twin = self.send(&unknown).await;
            if (twin.status, &twin.text) != (reply.status, &reply.text) {
                self.fail(attempt, &twin, "an unknown organization looks different");
            }
        }
        true
    }

    /// Ids of everything everywhere: exactly those are found that are here.
    async fn look_up(&self, number: usize, rng: &mut Rng) {
        let globe = self.globe.read().await;
        let here = self.shared(&globe, rng).await;
        let mut draft = self.draft(rng, &here);
        let caller = draft.caller();
        let (place, standing) = draft.place(&globe.slugs, caller);
        let ids: Vec<Uuid> = draft.writer(|writer| (0..6).map(|_| writer.id()).collect());
        let attempt = Attempt {
            number,
            caller,
            place,
            document: "query ($ids: [ID!]!, $id: ID!) { nodes(ids: $ids) { __typename id } node(id: $id) { __typename id }
                       organization { project(id: $id) { id } member(id: $id) { id } } }"
                .to_owned(),
            variables: json!({ "ids": ids, "id": ids[0] }),
        };
        let reply = self.ask(&attempt, &here, standing).await;
        if matches!(standing, Standing::Outside | Standing::Mismatch) {
            return;
        }
        let found = |id: &Uuid| match standing {
            Standing::Inside(role) => self.kind_of(&here, *id, caller, role),
            _ => None,
        };
        let node = |id: &Uuid| found(id).map(|kind| json!({ "__typename": kind, "id": id }));
        let only = |kind: &str| (found(&ids[0]) == Some(kind)).then(|| json!({ "id": ids[0] }));
        let inside = matches!(standing, Standing::Inside(_));
        let organization =
            inside.then(|| json!({ "project": only("Project"), "member": only("Member") }));
        let expected = json!({
            "nodes": ids.iter().map(node).collect::<Vec<_>>(),
            "node": node(&ids[0]),
            "organization": organization,
        });
        if reply.body["data"] != expected || !reply.codes().is_empty() {
            self.fail(&attempt, &reply, &format!("expected {expected}"));
        }
    }

    fn kind_of(
        &self,
        here: &Organization,
        id: Uuid,
        caller: usize,
        role: Role,
    ) -> Option<&'static str> {
        let person = self.people.iter().position(|person| person.id == id);
        if person.is_some_and(|person| person == caller || here.role_of(person).is_some()) {
            Some("User")
        } else if here.id == id {
            Some("Organization")
        } else if here.seats.contains_key(&id) {
            Some("Member")
        } else if here.projects.contains_key(&id) {
            Some("Project")
        } else {
            (role >= Role::Admin && here.invitations.contains_key(&id)).then_some("Invitation")
        }
    }

    /// Everything of an organization, which must be all of it.
    async fn take_stock(&self, number: usize, rng: &mut Rng) {
        let globe = self.globe.read().await;
        let here = self.shared(&globe, rng).await;
        let mut draft = self.draft(rng, &here);
        let caller = draft.caller();
        let (place, standing) = draft.place(&globe.slugs, caller);
        let attempt = Attempt {
            number,
            caller,
            place,
            document:
                "{ organization { id name slug viewerRole plan { plan }
                         projects(first: 100) { totalCount nodes { id name description } }
                         members(first: 100) { totalCount nodes { id role user { id } } }
                         invitations(first: 100) { totalCount nodes { id email role expired } } } }"
                    .to_owned(),
            variables: json!({}),
        };
        let reply = self.ask(&attempt, &here, standing).await;
        let Standing::Inside(role) = standing else { return };
        let found = sorted(reply.body["data"]["organization"].clone());
        let expected = sorted(self.stock(&here, role));
        if found != expected {
            self.fail(&attempt, &reply, &format!("expected {expected}"));
        }
    }

    fn stock(&self, here: &Organization, role: Role) -> Value {
        let list = |nodes: Vec<Value>| json!({ "totalCount": nodes.len(), "nodes": nodes });
        let projects = here.projects.iter().map(|(id, (name, description))| {
            json!({ "id": id, "name": name, "description": description })
        });
        let members = here.seats.iter().map(|(id, seat)| {
            json!({ "id": id, "role": seat.role.name(), "user": { "id": self.people[seat.person].id } })
        });
        let invitations = here.invitations.iter().map(|(id, open)| {
            json!({ "id": id, "email": open.email, "role": open.role.name(), "expired": open.expired })
        });
        json!({
            "id": here.id, "name": here.name, "slug": here.slug, "viewerRole": role.name(),
            "plan": { "plan": here.billing.plan },
            "projects": list(projects.collect()),
            "members": list(members.collect()),
            "invitations": (role >= Role::Admin).then(|| list(invitations.collect())),
        })
    }

    /// Any mutation inside an organization.
    async fn change(&self, number: usize, rng: &mut Rng) {
        let globe = self.globe.read().await;
        let mut here = self.exclusive(&globe, rng).await;
        let mut draft = self.draft(rng, &here);
        let caller = draft.caller();
        let (place, standing) = draft.place(&globe.slugs, caller);
        let name = draft.mutation();
        let change = draft.change(name);
        let document = draft.document(name);
        let variables = json!({ "input": change.input });
        let attempt = Attempt { number, caller, place, document, variables };
        if let Some(payload) =
            self.try_change(&attempt, standing, &change, &here, &globe.slugs).await
        {
            self.take_effect(caller, &change, &payload, &mut here, None);
        }
    }
}

fn sorted(mut organization: Value) -> Value {
    for list in ["projects", "members", "invitations"] {
        if let Some(nodes) = organization[list]["nodes"].as_array_mut() {
            nodes.sort_by_key(|node| node["id"].to_string());
        }
    }
    organization
}
