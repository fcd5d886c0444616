//! Mutations in the predicted part: tried, held against the model's objections, and taken over into
//! the model.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use super::{
    Attempt, Globe, Wall,
    draft::{Place, Standing},
    model::{Change, MOST_OWNED, Organization, Role, Slugs, uuid},
    register::{Owner, new_id, new_tag},
    reply,
};
use crate::support::Reply;

/// How many organizations there are at a time.
const FEWEST: usize = 5;
const MOST: usize = 9;

impl Wall {
    /// Tries it, and fails unless that comes out as it must. The payload, when it succeeded.
    pub async fn try_change(
        &self,
        attempt: &Attempt,
        standing: Standing,
        change: &Change,
        here: &Organization,
        slugs: &Slugs,
    ) -> Option<Value> {
        let objections = match standing {
            Standing::Inside(_) => here.objections(&self.people, slugs, attempt.caller, change),
            _ => vec!["ORGANIZATION_REQUIRED", "BAD_USER_INPUT"],
        };
        self.tried.lock().unwrap().insert(change.name);
        let person = self.people.iter().position(|person| change.input["email"] == person.email());
        if let (Some(person), true) = (person, objections.is_empty()) {
            self.register.lock().unwrap().acquaint(here.index, person);
        }
        let since = self.now();
        let reply = self.send(attempt).await;
        let inside = matches!(standing, Standing::Inside(_));
        self.check(attempt, &reply, inside.then_some(here.index), since);
        if self.stopped(attempt, &reply, standing).await {
            return None;
        }
        let payload = self.judge(attempt, &reply, &objections, change.name);
        if inside && payload.is_none() {
            self.compare_with_unknown(attempt, change, here, &reply).await;
        }
        payload
    }

    fn judge(
        &self,
        attempt: &Attempt,
        reply: &Reply,
        objections: &[&str],
        name: &str,
    ) -> Option<Value> {
        let codes = reply::codes(reply).0;
        let payload = reply.body["data"].get(name).filter(|payload| !payload.is_null());
        let expected = if objections.is_empty() {
            // What the payload leads to may be kept back still.
            payload.is_some() && codes.iter().all(|code| *code == "FORBIDDEN")
        } else {
            // Refused: nothing was written, and nothing of it is shown.
            let known = codes.iter().all(|code| objections.contains(code));
            known && !codes.is_empty() && reply.body.get("data") == Some(&Value::Null)
        };
        if !expected || reply.status != 200 {
            self.fail(attempt, reply, &format!("expected {objections:?}"));
        }
        payload.cloned()
    }

    /// What belongs to others and what does not exist are the same answer.
    async fn compare_with_unknown(
        &self,
        attempt: &Attempt,
        change: &Change,
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
        if !self.register.lock().unwrap().is_foreign(id, here.index) {
            return;
        }
        let mut twin = attempt.clone();
        twin.variables["input"][field] = json!(new_id(&mut self.rng(attempt.number)));
        let answer = self.send(&twin).await;
        if (answer.status, &answer.text) != (reply.status, &reply.text) {
            self.fail(&twin, &answer, &format!("an unknown id looks different: {}", reply.text));
        }
    }

    pub fn take_effect(
        &self,
        caller: usize,
        change: &Change,
        payload: &Value,
        here: &mut Organization,
        slugs: Option<&mut Slugs>,
    ) {
        let gone = here.apply(slugs, caller, change, payload);
        let mut register = self.register.lock().unwrap();
        here.register(&mut register);
        let ended = here.ended.then(|| here.seats.values().map(|seat| seat.person));
        for person in gone.into_iter().chain(ended.into_iter().flatten()) {
            register.leaves(person, here.index);
        }
        let link = &payload["invitation"]["id"];
        if let Some(open) = uuid(link).and_then(|id| here.invitations.get(&id)) {
            register.tokens.push((here.index, open.token.clone()));
        }
    }

    /// Somebody shows a token: of an invitation to them or to others, that is open or not.
    pub async fn accept(&self, number: usize, rng: &mut Rng) {
        let globe = self.globe.read().await;
        let mut here = self.exclusive(&globe, rng).await;
        let (token, caller) = self.token_and_caller(rng, &here);
        let mut draft = self.draft(rng, &here);
        let (place, standing) = if draft.rng.u8(..10) < 8 {
            (Place::default(), Standing::Nowhere)
        } else {
            draft.place(&globe.slugs, caller)
        };
        let document = draft.document("acceptInvitation");
        let variables = json!({ "input": { "token": token } });
        let attempt = Attempt { number, caller, place, document, variables };
        self.tried.lock().unwrap().insert("acceptInvitation");
        let objections = here.objections_to_accept(&self.people, caller, &token);
        let since = self.now();
        let enters =
            objections.is_empty() && matches!(standing, Standing::Inside(_) | Standing::Nowhere);
        if enters {
            // Before it is sent: others may ask for this person's memberships meanwhile.
            self.register.lock().unwrap().enters(caller, here.index);
        }
        let reply = self.send(&attempt).await;
        let inside = enters || matches!(standing, Standing::Inside(_));
        self.check(&attempt, &reply, inside.then_some(here.index), since);
        if self.stopped(&attempt, &reply, standing).await {
            return;
        }
        if let Some(payload) = self.judge(&attempt, &reply, &objections, "acceptInvitation") {
            here.apply_accept(caller, &token, &payload);
            here.register(&mut self.register.lock().unwrap());
        }
    }

    fn token_and_caller(&self, rng: &mut Rng, here: &Organization) -> (String, usize) {
        let anybody = rng.usize(..self.people.len());
        let open: Vec<_> =
            here.invitations.values().filter(|open| !open.token.is_empty()).collect();
        if let Some(open) = rng.choice(open).filter(|_| rng.u8(..10) < 8) {
            let invited = self.people.iter().position(|person| person.email() == open.email);
            let caller = invited.filter(|_| rng.u8(..10) < 9).unwrap_or(anybody);
            return (open.token.clone(), caller);
        }
        let register = self.register.lock().unwrap();
        let of_here =
            register.tokens.iter().filter(|(organization, _)| *organization == here.index);
        let token = rng.choice(of_here.collect::<Vec<_>>());
        (token.map_or("no token".to_owned(), |(_, token)| token.clone()), anybody)
    }

    /// What concerns more than one organization: founding, ending, and taking a slug. Everybody
    /// else waits.
    pub async fn change_the_globe(&self, number: usize, rng: &mut Rng) {
        let mut globe = self.globe.write().await;
        let mut living = 0;
        for organization in &globe.organizations {
            living += usize::from(!organization.read().await.ended);
        }
        if living < MOST && rng.bool() {
            return self.found(number, rng, &mut globe).await;
        }
        let mut here = self.exclusive(&globe, rng).await;
        let never = !self.tried.lock().unwrap().contains("deleteOrganization");
        let ends = living > FEWEST && (never || rng.u8(..4) == 0);
        let name = if ends { "deleteOrganization" } else { "updateOrganization" };
        let mut draft = self.draft(rng, &here);
        let caller = draft.caller();
        let (place, standing) = draft.place(&globe.slugs, caller);
        let slug = match draft.rng.u8(..10) {
            0..2 => taken(draft.rng, &globe.slugs),
            _ if name == "deleteOrganization" => here.slug.clone(),
            _ => format!("s{}-{}", draft.rng.u8(..), here.tag),
        };
        let change = Change { name, input: json!({ "slug": slug }) };
        let document = draft.document(name);
        let variables = json!({ "input": change.input });
        let attempt = Attempt { number, caller, place, document, variables };
        let payload = self.try_change(&attempt, standing, &change, &here, &globe.slugs).await;
        if let Some(payload) = payload {
            self.take_effect(caller, &change, &payload, &mut here, Some(&mut globe.slugs));
        }
    }

    async fn found(&self, number: usize, rng: &mut Rng, globe: &mut Globe) {
        let index = globe.organizations.len();
        let (caller, tag) = (rng.usize(..self.people.len()), new_tag(rng));
        self.register.lock().unwrap().add_tag(&tag, Owner::Organization(index));
        let slug = match rng.u8(..10) {
            0 => "graphql".to_owned(),
            1..3 => taken(rng, &globe.slugs),
            _ => format!("first-{tag}"),
        };
        let mut objections = Vec::new();
        if slug == "graphql" {
            objections.push("CONFLICT");
        }
        let mut owned = 0;
        for organization in &globe.organizations {
            owned += usize::from(organization.read().await.role_of(caller) == Some(Role::Owner));
        }
        if owned >= MOST_OWNED || globe.slugs.refuse(&slug, index, caller) {
            objections.push("CONFLICT");
        }
        let input = json!({ "name": format!("Organization {tag}"), "slug": slug });
        let new = Organization { index, ..Organization::default() };
        let attempt = Attempt {
            number,
            caller,
            place: Place::default(),
            document: self.draft(rng, &new).document("createOrganization"),
            variables: json!({ "input": input }),
        };
        self.tried.lock().unwrap().insert("createOrganization");
        let since = self.now();
        if objections.is_empty() {
            let mut register = self.register.lock().unwrap();
            register.enters(caller, index);
            register.acquaint(index, caller);
        }
        let reply = self.send(&attempt).await;
        self.check(&attempt, &reply, objections.is_empty().then_some(index), since);
        if let Some(payload) = self.judge(&attempt, &reply, &objections, "createOrganization") {
            let founded = Organization::founded(index, caller, &tag, &input, &payload);
            founded.register(&mut self.register.lock().unwrap());
            globe.slugs.claim(&slug, index, caller);
            globe.organizations.push(Arc::new(RwLock::new(founded)));
        }
    }
}

fn taken(rng: &mut Rng, slugs: &Slugs) -> String {
    let all: Vec<&String> = slugs.0.keys().collect();
    (*rng.choice(all).unwrap()).clone()
}
