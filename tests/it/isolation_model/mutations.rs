//! Mutations in the modelled phase: sent, compared with the expected errors, and applied to the
//! model.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use super::{
    Harness, Request, Shared,
    generator::{Access, Target},
    model::{MAX_OWNED, Mutation, Organization, Role, Slugs, uuid},
    ownership::{Owner, new_id, new_tag},
    responses,
};
use crate::support::Reply;

/// The range of the number of organizations.
const MIN_ORGANIZATIONS: usize = 5;
const MAX_ORGANIZATIONS: usize = 9;

impl Harness {
    /// Sends a mutation and asserts the expected outcome. Returns the payload of a success.
    pub async fn send_mutation(
        &self,
        request: &Request,
        access: Access,
        change: &Mutation,
        here: &Organization,
        slugs: &Slugs,
    ) -> Option<Value> {
        let expected_errors = match access {
            Access::Inside(_) => here.expected_errors(&self.users, slugs, request.caller, change),
            _ => vec!["ORGANIZATION_REQUIRED", "BAD_USER_INPUT"],
        };
        self.covered.lock().unwrap().insert(change.name);
        let user = self.users.iter().position(|user| change.input["email"] == user.email());
        if let (Some(user), true) = (user, expected_errors.is_empty()) {
            self.ownership.lock().unwrap().make_known(here.index, user);
        }
        let since = self.now();
        let reply = self.send(request).await;
        let inside = matches!(access, Access::Inside(_));
        self.check(request, &reply, inside.then_some(here.index), since);
        if self.is_rejected(request, &reply, access).await {
            return None;
        }
        let payload = self.check_outcome(request, &reply, &expected_errors, change.name);
        if inside && payload.is_none() {
            self.compare_with_unknown(request, change, here, &reply).await;
        }
        payload
    }

    pub fn check_outcome(
        &self,
        request: &Request,
        reply: &Reply,
        expected_errors: &[&str],
        name: &str,
    ) -> Option<Value> {
        let codes = responses::codes(reply).0;
        let payload = reply.body["data"].get(name).filter(|payload| !payload.is_null());
        let expected = if expected_errors.is_empty() {
            // Fields behind the payload may still be forbidden.
            payload.is_some() && codes.iter().all(|code| *code == "FORBIDDEN")
        } else {
            // On an error nothing was written, and the response has no data.
            let known = codes.iter().all(|code| expected_errors.contains(code));
            known && !codes.is_empty() && reply.body.get("data") == Some(&Value::Null)
        };
        if !expected || reply.status != 200 {
            self.fail(request, reply, &format!("expected {expected_errors:?}"));
        }
        payload.cloned()
    }

    /// A foreign id and an unknown id must get the same response.
    async fn compare_with_unknown(
        &self,
        request: &Request,
        change: &Mutation,
        here: &Organization,
        reply: &Reply,
    ) {
        let field = ["id", "memberId", "organizationId"]
            .into_iter()
            .find(|field| change.input.get(field).is_some());
        let Some((field, id)) = field.and_then(|field| Some((field, uuid(&change.input[field])?)))
        else {
            return;
        };
        if !self.ownership.lock().unwrap().is_foreign(id, here.index) {
            return;
        }
        let mut other = request.clone();
        other.variables["input"][field] = json!(new_id(&mut self.rng(request.number)));
        let response = self.send(&other).await;
        if (response.status, &response.text) != (reply.status, &reply.text) {
            self.fail(
                &other,
                &response,
                &format!("an unknown id gets another response: {}", reply.text),
            );
        }
    }

    pub fn apply_mutation(
        &self,
        caller: usize,
        change: &Mutation,
        payload: &Value,
        here: &mut Organization,
        slugs: Option<&mut Slugs>,
    ) {
        let gone = here.apply(slugs, caller, change, payload);
        let mut ownership = self.ownership.lock().unwrap();
        here.ownership(&mut ownership);
        let ended = here.ended.then(|| here.memberships.values().map(|membership| membership.user));
        for user in gone.into_iter().chain(ended.into_iter().flatten()) {
            ownership.leaves(user, here.index);
        }
        let link = &payload["invitation"]["id"];
        if let Some(open) = uuid(link).and_then(|id| here.invitations.get(&id)) {
            ownership.tokens.push((here.index, open.token.clone()));
        }
    }

    /// Accepts or declines an invitation with a token: the caller's or another user's, open or not.
    pub async fn answer(&self, number: usize, rng: &mut Rng) {
        let shared = self.shared.read().await;
        let mut here = self.lock_organization(&shared, rng).await;
        let (token, caller) = self.token_and_caller(rng, &here);
        let mut generator = self.generator(rng, &here);
        let (target, access) = if generator.rng.u8(..10) < 8 {
            (Target::default(), Access::NoOrganization)
        } else {
            generator.target(&shared.slugs, caller)
        };
        let name =
            if generator.rng.u8(..8) == 0 { "declineInvitation" } else { "acceptInvitation" };
        let document = generator.document(name);
        let variables = json!({ "input": { "token": token } });
        let request = Request { number, caller, target, document, variables };
        self.covered.lock().unwrap().insert(name);
        let expected_errors = here.expected_answer_errors(&self.users, caller, name, &token);
        let since = self.now();
        let enters = expected_errors.is_empty()
            && matches!(access, Access::Inside(_) | Access::NoOrganization);
        if enters && name == "acceptInvitation" {
            // Before the request is sent, because the user's memberships may be queried meanwhile.
            self.ownership.lock().unwrap().joins(caller, here.index);
        }
        let reply = self.send(&request).await;
        let inside = enters || matches!(access, Access::Inside(_));
        self.check(&request, &reply, inside.then_some(here.index), since);
        if self.is_rejected(&request, &reply, access).await {
            return;
        }
        if let Some(payload) = self.check_outcome(&request, &reply, &expected_errors, name) {
            if name == "acceptInvitation" {
                here.apply_accept(caller, &token, &payload);
            } else {
                here.apply_decline(&token);
            }
            here.ownership(&mut self.ownership.lock().unwrap());
        }
    }

    fn token_and_caller(&self, rng: &mut Rng, here: &Organization) -> (String, usize) {
        let any_user = rng.usize(..self.users.len());
        let open: Vec<_> =
            here.invitations.values().filter(|open| !open.token.is_empty()).collect();
        if let Some(open) = rng.choice(open).filter(|_| rng.u8(..10) < 8) {
            let invited = self.users.iter().position(|user| user.email() == open.email);
            let caller = invited.filter(|_| rng.u8(..10) < 9).unwrap_or(any_user);
            return (open.token.clone(), caller);
        }
        let ownership = self.ownership.lock().unwrap();
        let of_here =
            ownership.tokens.iter().filter(|(organization, _)| *organization == here.index);
        let token = rng.choice(of_here.collect::<Vec<_>>());
        (token.map_or("no token".to_owned(), |(_, token)| token.clone()), any_user)
    }

    /// Mutations that affect several organizations: creation, deletion and changes of slugs. All
    /// other operations wait.
    pub async fn change_organizations(&self, number: usize, rng: &mut Rng) {
        let mut shared = self.shared.write().await;
        let mut living = 0;
        for organization in &shared.organizations {
            living += usize::from(!organization.read().await.ended);
        }
        if living < MAX_ORGANIZATIONS && rng.bool() {
            return self.create_organization(number, rng, &mut shared).await;
        }
        let mut here = self.lock_organization(&shared, rng).await;
        let never = !self.covered.lock().unwrap().contains("deleteOrganization");
        let ends = living > MIN_ORGANIZATIONS && (never || rng.u8(..4) == 0);
        let name = if ends { "deleteOrganization" } else { "updateOrganization" };
        let mut generator = self.generator(rng, &here);
        let caller = generator.caller();
        let (target, access) = generator.target(&shared.slugs, caller);
        let slug = match generator.rng.u8(..10) {
            0..2 => any_slug(generator.rng, &shared.slugs),
            _ if name == "deleteOrganization" => here.slug.clone(),
            _ => format!("s{}-{}", generator.rng.u8(..), here.tag),
        };
        let change = Mutation { name, input: json!({ "slug": slug }) };
        let document = generator.document(name);
        let variables = json!({ "input": change.input });
        let request = Request { number, caller, target, document, variables };
        let payload = self.send_mutation(&request, access, &change, &here, &shared.slugs).await;
        if let Some(payload) = payload {
            self.apply_mutation(caller, &change, &payload, &mut here, Some(&mut shared.slugs));
        }
    }

    async fn create_organization(&self, number: usize, rng: &mut Rng, shared: &mut Shared) {
        let index = shared.organizations.len();
        let (caller, tag) = (rng.usize(..self.users.len()), new_tag(rng));
        self.ownership.lock().unwrap().add_tag(&tag, Owner::Organization(index));
        let slug = match rng.u8(..10) {
            0 => "graphql".to_owned(),
            1..3 => any_slug(rng, &shared.slugs),
            _ => format!("first-{tag}"),
        };
        let mut expected_errors = Vec::new();
        if slug == "graphql" {
            expected_errors.push("CONFLICT");
        }
        let mut owned = 0;
        for organization in &shared.organizations {
            owned += usize::from(organization.read().await.role_of(caller) == Some(Role::Owner));
        }
        if owned >= MAX_OWNED || shared.slugs.refuse(&slug, index, caller) {
            expected_errors.push("CONFLICT");
        }
        let input = json!({ "name": format!("Organization {tag}"), "slug": slug });
        let new = Organization { index, ..Organization::default() };
        let request = Request {
            number,
            caller,
            target: Target::default(),
            document: self.generator(rng, &new).document("createOrganization"),
            variables: json!({ "input": input }),
        };
        self.covered.lock().unwrap().insert("createOrganization");
        let since = self.now();
        if expected_errors.is_empty() {
            let mut ownership = self.ownership.lock().unwrap();
            ownership.joins(caller, index);
            ownership.make_known(index, caller);
        }
        let reply = self.send(&request).await;
        self.check(&request, &reply, expected_errors.is_empty().then_some(index), since);
        if let Some(payload) =
            self.check_outcome(&request, &reply, &expected_errors, "createOrganization")
        {
            let created = Organization::created(index, caller, &tag, &input, &payload);
            created.ownership(&mut self.ownership.lock().unwrap());
            shared.slugs.claim(&slug, index, caller);
            shared.organizations.push(Arc::new(RwLock::new(created)));
        }
    }
}

fn any_slug(rng: &mut Rng, slugs: &Slugs) -> String {
    let all: Vec<&String> = slugs.0.keys().collect();
    (*rng.choice(all).unwrap()).clone()
}
