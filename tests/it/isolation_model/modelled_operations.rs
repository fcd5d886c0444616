//! Operations with a predicted outcome: a mutation has its organization to itself.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};
use uuid::Uuid;

use super::{
    Harness, Request, Shared,
    generator::{Access, Target},
    model::{Organization, Role},
    ownership::new_tag,
    responses,
};
use crate::support::Reply;

impl Harness {
    pub async fn modelled_operation(&self, number: usize) {
        let mut rng = self.rng(number);
        match rng.u8(..100) {
            0..4 => self.change_organizations(number, &mut rng).await,
            4..16 => self.answer(number, &mut rng).await,
            16..54 => self.run_mutation(number, &mut rng).await,
            54..67 => self.check_nodes(number, &mut rng).await,
            67..75 => self.check_contents(number, &mut rng).await,
            75..77 => self.unlink(number, &mut rng).await,
            77 => self.rename(number, &mut rng).await,
            _ => self.run_query(number, &mut rng).await,
        }
    }

    async fn read_organization(
        &self,
        shared: &Shared,
        rng: &mut Rng,
    ) -> OwnedRwLockReadGuard<Organization> {
        loop {
            let organization = Arc::clone(rng.choice(&shared.organizations).unwrap());
            let organization = organization.read_owned().await;
            // Sometimes a deleted organization.
            if !organization.ended || rng.u8(..50) == 0 {
                return organization;
            }
        }
    }

    pub async fn lock_organization(
        &self,
        shared: &Shared,
        rng: &mut Rng,
    ) -> OwnedRwLockWriteGuard<Organization> {
        loop {
            let organization = Arc::clone(rng.choice(&shared.organizations).unwrap());
            let organization = organization.write_owned().await;
            if !organization.ended || rng.u8(..50) == 0 {
                return organization;
            }
        }
    }

    pub fn now(&self) -> u64 {
        self.ownership.lock().unwrap().tick()
    }

    /// Runs a random query.
    async fn run_query(&self, number: usize, rng: &mut Rng) {
        let shared = self.shared.read().await;
        let here = self.read_organization(&shared, rng).await;
        let mut generator = self.generator(rng, &here);
        let caller = generator.caller();
        let (target, access) = generator.target(&shared.slugs, caller);
        let document = generator.query();
        let request = Request { number, caller, target, document, variables: json!({}) };
        let reply = self.query(&request, &here, access).await;
        let Access::Inside(role) = access else { return };
        if let Some(why) = responses::unauthorized_content(&reply, &here, &self.users, caller, role)
        {
            self.fail(&request, &reply, &why);
        }
        let allowed = |code: &&str| ["FORBIDDEN", "QUERY_TOO_COMPLEX"].contains(code);
        if !responses::codes(&reply).0.iter().all(allowed) {
            self.fail(&request, &reply, "a query that should succeed");
        }
    }

    /// Sends a query. It is rejected as a whole where the caller has no access.
    async fn query(&self, request: &Request, here: &Organization, access: Access) -> Reply {
        let since = self.now();
        let reply = self.send(request).await;
        let inside = matches!(access, Access::Inside(_));
        self.check(request, &reply, inside.then_some(here.index), since);
        if self.is_rejected(request, &reply, access).await {
            return reply;
        }
        if access == Access::NoOrganization
            && reply.body["data"].get("organization").is_some_and(|found| !found.is_null())
        {
            self.fail(request, &reply, "an organization without a target");
        }
        reply
    }

    /// Returns whether the request was rejected, as the access demands. An unknown organization
    /// must get the same response.
    pub async fn is_rejected(&self, request: &Request, reply: &Reply, access: Access) -> bool {
        let expected = match access {
            Access::Outside => (404, "NOT_FOUND"),
            Access::Mismatch => (403, "ORGANIZATION_MISMATCH"),
            _ => return false,
        };
        let got = (reply.status.as_u16(), reply.codes());
        // A document over the limits is rejected before the organization is resolved.
        if got == (400, vec!["QUERY_TOO_COMPLEX"]) {
            return true;
        }
        if got != (expected.0, vec![expected.1]) || reply.body.get("data").is_some() {
            self.fail(request, reply, "not rejected as outside the organization");
        }
        if access == Access::Outside && request.number.is_multiple_of(4) {
            let slug = Some(new_tag(&mut self.rng(request.number)));
            let unknown = Request { target: Target { slug, claim: None }, ..request.clone() };
            let other = self.send(&unknown).await;
            if (other.status, &other.text) != (reply.status, &reply.text) {
                self.fail(request, &other, "an unknown organization gets another response");
            }
        }
        true
    }

    /// Looks up ids of any object anywhere: exactly those of this organization are found.
    async fn check_nodes(&self, number: usize, rng: &mut Rng) {
        let shared = self.shared.read().await;
        let here = self.read_organization(&shared, rng).await;
        let mut generator = self.generator(rng, &here);
        let caller = generator.caller();
        let (target, access) = generator.target(&shared.slugs, caller);
        let ids: Vec<Uuid> = generator.writer(|writer| (0..6).map(|_| writer.id()).collect());
        let request = Request {
            number,
            caller,
            target,
            document: "query ($ids: [ID!]!, $id: ID!) { nodes(ids: $ids) { __typename id } node(id: $id) { __typename id }
                       organization { project(id: $id) { id } member(id: $id) { id } } }"
                .to_owned(),
            variables: json!({ "ids": ids, "id": ids[0] }),
        };
        let reply = self.query(&request, &here, access).await;
        if matches!(access, Access::Outside | Access::Mismatch) {
            return;
        }
        let found = |id: &Uuid| match access {
            Access::Inside(role) => self.kind_of(&here, *id, caller, role),
            _ => None,
        };
        let node = |id: &Uuid| found(id).map(|kind| json!({ "__typename": kind, "id": id }));
        let only = |kind: &str| (found(&ids[0]) == Some(kind)).then(|| json!({ "id": ids[0] }));
        let inside = matches!(access, Access::Inside(_));
        let organization =
            inside.then(|| json!({ "project": only("Project"), "member": only("Member") }));
        let expected = json!({
            "nodes": ids.iter().map(node).collect::<Vec<_>>(),
            "node": node(&ids[0]),
            "organization": organization,
        });
        if reply.body["data"] != expected || !reply.codes().is_empty() {
            self.fail(&request, &reply, &format!("expected {expected}"));
        }
    }

    fn kind_of(
        &self,
        here: &Organization,
        id: Uuid,
        caller: usize,
        role: Role,
    ) -> Option<&'static str> {
        let user = self.users.iter().position(|user| user.id == id);
        if user.is_some_and(|user| user == caller || here.role_of(user).is_some()) {
            Some("User")
        } else if here.id == id {
            Some("Organization")
        } else if here.memberships.contains_key(&id) {
            Some("Member")
        } else if here.projects.contains_key(&id) {
            Some("Project")
        } else {
            let open = here.invitations.get(&id).is_some_and(|open| here.is_open(open));
            (role >= Role::Admin && open).then_some("Invitation")
        }
    }

    /// Reads the whole organization and compares it with the model.
    async fn check_contents(&self, number: usize, rng: &mut Rng) {
        let shared = self.shared.read().await;
        let here = self.read_organization(&shared, rng).await;
        let mut generator = self.generator(rng, &here);
        let caller = generator.caller();
        let (target, access) = generator.target(&shared.slugs, caller);
        let request = Request {
            number,
            caller,
            target,
            document: "{ organization { id name slug viewerRole plan { key }
                         projects(first: 100) { totalCount nodes { id name description } }
                         members(first: 100) { totalCount nodes { id role user { id } } }
                         invitations(first: 100) { totalCount nodes { id email role expired } } }
                   viewer { identities { id issuer subject } } }"
                .to_owned(),
            variables: json!({}),
        };
        let reply = self.query(&request, &here, access).await;
        let Access::Inside(role) = access else { return };
        let found = sorted(reply.body["data"]["organization"].clone());
        let expected = sorted(self.expected_contents(&here, role));
        if found != expected {
            self.fail(&request, &reply, &format!("expected {expected}"));
        }
        let mut found = reply.body["data"]["viewer"]["identities"].as_array().unwrap().clone();
        found.sort_by_key(|identity| identity["id"].to_string());
        let expected = self.identities_of(caller);
        if found != expected {
            self.fail(&request, &reply, &format!("expected {expected:?}"));
        }
    }

    fn expected_contents(&self, here: &Organization, role: Role) -> Value {
        let list = |nodes: Vec<Value>| json!({ "totalCount": nodes.len(), "nodes": nodes });
        let projects = here.projects.iter().map(|(id, (name, description))| {
            json!({ "id": id, "name": name, "description": description })
        });
        let members = here.memberships.iter().map(|(id, membership)| {
            json!({ "id": id, "role": membership.role.name(), "user": { "id": self.users[membership.user].id } })
        });
        let open = here.invitations.iter().filter(|(_, open)| here.is_open(open));
        let invitations = open.map(|(id, open)| {
            json!({ "id": id, "email": open.email, "role": open.role.name(), "expired": open.expired })
        });
        json!({
            "id": here.id, "name": here.name, "slug": here.slug, "viewerRole": role.name(),
            "plan": { "key": here.billing.plan },
            "projects": list(projects.collect()),
            "members": list(members.collect()),
            "invitations": (role >= Role::Admin).then(|| list(invitations.collect())),
        })
    }

    /// Runs a random mutation in an organization.
    async fn run_mutation(&self, number: usize, rng: &mut Rng) {
        let shared = self.shared.read().await;
        let mut here = self.lock_organization(&shared, rng).await;
        let mut generator = self.generator(rng, &here);
        let caller = generator.caller();
        let (target, access) = generator.target(&shared.slugs, caller);
        let name = generator.mutation();
        let change = generator.change(name);
        let document = generator.document(name);
        let variables = json!({ "input": change.input });
        let request = Request { number, caller, target, document, variables };
        if let Some(payload) =
            self.send_mutation(&request, access, &change, &here, &shared.slugs).await
        {
            self.apply_mutation(caller, &change, &payload, &mut here, None);
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
