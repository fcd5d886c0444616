//! Identities, with which users sign in. Only their user may see and unlink them, and every
//! organization of that user records it.

use fastrand::Rng;
use pg::Row;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Harness, Request,
    expected_errors::expected_unlink_errors,
    generator::{Access, Target},
    model::{Organization, uuid},
    ownership::{User, new_id},
};
use crate::support::{Reply, app::token_with, database::RowExt};

impl Harness {
    /// Tries to unlink an identity. All other operations wait, because every organization of the
    /// caller records it.
    pub async fn unlink(&self, number: usize, rng: &mut Rng) {
        let shared = self.shared.write().await;
        let here = self.lock_organization(&shared, rng).await;
        let mut generator = self.generator(rng, &here);
        let caller = generator.caller();
        let (target, access) = generator.target(&shared.slugs, caller);
        let change = generator.unlink(caller);
        let document = generator.document(change.name);
        let variables = json!({ "input": change.input });
        let request = Request { number, caller, target, document, variables };
        self.covered.lock().unwrap().insert(change.name);
        let id = uuid(&change.input["id"]);
        let (expected_errors, subject) = {
            let ownership = self.ownership.lock().unwrap();
            let identity = id.and_then(|id| ownership.identities.get(&id));
            let subject = identity.map(|identity| identity.subject.clone());
            (expected_unlink_errors(&self.users, caller, identity), subject.unwrap_or_default())
        };
        let own = json!(self.users[caller].id);
        let succeeds = expected_errors.is_empty()
            && matches!(access, Access::Inside(_) | Access::NoOrganization);
        if succeeds {
            assert_eq!(
                self.user_of(&subject).await,
                own,
                "ISOLATION_SEED={}: {subject}",
                self.seed
            );
        }
        let since = self.now();
        let reply = self.send(&request).await;
        let inside = matches!(access, Access::Inside(_));
        self.check(&request, &reply, inside.then_some(here.index), since);
        let slug = here.slug.clone();
        let is_member = here.role_of(caller).is_some();
        drop(here);
        if self.is_rejected(&request, &reply, access).await {
            return;
        }
        let Some(payload) = self.check_outcome(&request, &reply, &expected_errors, change.name)
        else {
            return self
                .compare_with_unknown_identity(&request, id, &expected_errors, &reply)
                .await;
        };
        self.unlinked(&request, &payload);
        let mut left: Vec<Value> = payload["viewer"]["identities"].as_array().unwrap().clone();
        left.sort_by_key(|identity| identity["id"].to_string());
        let expected = self.identities_of(caller);
        if left.iter().map(|identity| &identity["id"]).ne(expected.iter().map(|one| &one["id"])) {
            self.fail(&request, &reply, &format!("expected {expected:?}"));
        }
        for organization in &shared.organizations {
            organization.write().await.apply_unlink(caller);
        }
        // The identity now belongs to a new user, who is in no organization.
        assert_ne!(self.user_of(&subject).await, own, "ISOLATION_SEED={}: {subject}", self.seed);
        if is_member {
            let path = format!("/org/{slug}");
            let reply = self.ask_as(&subject, &path, "{ organization { id } }").await;
            reply.assert_refused(404, "NOT_FOUND");
        }
    }

    /// Changes the caller's name. All other operations wait, because every organization of the
    /// caller records it.
    pub async fn rename(&self, number: usize, rng: &mut Rng) {
        let shared = self.shared.write().await;
        let here = self.lock_organization(&shared, rng).await;
        let mut generator = self.generator(rng, &here);
        let caller = generator.caller();
        let (target, access) = generator.target(&shared.slugs, caller);
        let change = generator.rename(caller);
        let document = generator.document(change.name);
        let variables = json!({ "input": change.input });
        let request = Request { number, caller, target, document, variables };
        self.covered.lock().unwrap().insert(change.name);
        let is_valid = change.input["name"].as_str().is_some_and(|name| name.starts_with("User"));
        let expected_errors = if is_valid { Vec::new() } else { vec!["BAD_USER_INPUT"] };
        let since = self.now();
        let reply = self.send(&request).await;
        let inside = matches!(access, Access::Inside(_));
        self.check(&request, &reply, inside.then_some(here.index), since);
        drop(here);
        if self.is_rejected(&request, &reply, access).await {
            return;
        }
        if self.check_outcome(&request, &reply, &expected_errors, change.name).is_some() {
            for organization in &shared.organizations {
                organization.write().await.apply_rename(caller);
            }
        }
    }

    /// A foreign id and an unknown id must get the same response.
    async fn compare_with_unknown_identity(
        &self,
        request: &Request,
        id: Option<Uuid>,
        expected_errors: &[&str],
        reply: &Reply,
    ) {
        if id.is_none() || expected_errors != ["NOT_FOUND"] {
            return;
        }
        let mut twin = request.clone();
        twin.variables["input"]["id"] = json!(new_id(&mut self.rng(request.number)));
        let answer = self.send(&twin).await;
        if (answer.status, &answer.text) != (reply.status, &reply.text) {
            self.fail(
                &twin,
                &answer,
                &format!("an unknown id gets another response: {}", reply.text),
            );
        }
    }

    /// Removes an identity from the model, once.
    pub fn unlinked(&self, request: &Request, payload: &Value) {
        let id = uuid(&request.variables["input"]["id"]).unwrap();
        let identity = self.ownership.lock().unwrap().identities.remove(&id);
        assert!(
            identity.is_some_and(|identity| {
                identity.user == request.caller
                    && identity.subject != self.users[request.caller].tag
            }),
            "ISOLATION_SEED={}: {request:?}: {payload}",
            self.seed
        );
    }

    /// Returns a user's identities as the API lists them, sorted by id.
    pub fn identities_of(&self, user: usize) -> Vec<Value> {
        let ownership = self.ownership.lock().unwrap();
        let list = ownership
            .identities_of(user)
            .map(|(id, identity)| json!({ "id": id, "issuer": "", "subject": identity.subject }));
        list.collect()
    }

    async fn user_of(&self, subject: &str) -> Value {
        self.ask_as(subject, "", "{ viewer { id } }").await.data()["viewer"]["id"].clone()
    }

    async fn ask_as(&self, subject: &str, path: &str, query: &str) -> Reply {
        let token = token_with(&json!({ "sub": subject, "exp": 4_000_000_000_i64 }));
        let request = self
            .http
            .post(format!("{}{path}/graphql", self.app.base))
            .header("accept", "application/graphql-response+json")
            .bearer_auth(token)
            .json(&json!({ "query": query }));
        Reply::of(request).await
    }

    /// Generates a request of the caller.
    pub fn prepare_unlink(&self, rng: &mut Rng, request: &mut Request, here: &Organization) {
        let mut generator = self.generator(rng, here);
        let change = generator.unlink(request.caller);
        request.document = generator.document(change.name);
        request.target = Target::default();
        request.variables = json!({ "input": change.input });
    }

    /// Fails unless the identities in the database are those of the model.
    pub async fn compare_identities(&self) {
        let connection = self.app.database.connect_admin().await;
        let sql = "SELECT user_id, subject FROM auth.identities WHERE issuer = ''";
        let rows = connection.query::<Row>(sql, &[]).await.unwrap();
        let ownership = self.ownership.lock().unwrap();
        for (user, User { id, .. }) in self.users.iter().enumerate() {
            let mut found: Vec<String> = rows
                .iter()
                .filter(|row| row.get::<Uuid>("user_id") == *id)
                .map(|row| row.get("subject"))
                .collect();
            found.sort();
            let identities = ownership.identities_of(user);
            let mut expected: Vec<_> = identities.map(|(_, one)| one.subject.clone()).collect();
            expected.sort();
            assert_eq!(found, expected, "ISOLATION_SEED={}: identities of {id}", self.seed);
        }
    }
}
