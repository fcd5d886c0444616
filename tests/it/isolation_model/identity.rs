//! Identities: who signs in as whom. Only their own user may see and unlink them, and every
//! organization of that user records it.

use fastrand::Rng;
use serde_json::{Value, json};
use sqlx::{Executor, Row};
use uuid::Uuid;

use super::{
    Attempt, Harness,
    expected_errors::objections_to_unlink,
    generator::{Place, Standing},
    model::{Organization, uuid},
    ownership::{User, new_id},
};
use crate::support::{Reply, app::token_with};

impl Harness {
    /// Unlinks an identity, or tries to. The organizations of the caller record it, so that
    /// everything else waits.
    pub async fn unlink(&self, number: usize, rng: &mut Rng) {
        let globe = self.globe.write().await;
        let here = self.exclusive(&globe, rng).await;
        let mut generator = self.generator(rng, &here);
        let caller = generator.caller();
        let (place, standing) = generator.place(&globe.slugs, caller);
        let mutations = generator.unlink(caller);
        let document = generator.document(mutations.name);
        let variables = json!({ "input": mutations.input });
        let attempt = Attempt { number, caller, place, document, variables };
        self.tried.lock().unwrap().insert(mutations.name);
        let id = uuid(&mutations.input["id"]);
        let (objections, subject) = {
            let ownership = self.ownership.lock().unwrap();
            let identity = id.and_then(|id| ownership.identities.get(&id));
            let subject = identity.map(|identity| identity.subject.clone());
            (objections_to_unlink(&self.people, caller, identity), subject.unwrap_or_default())
        };
        let own = json!(self.people[caller].id);
        let succeeds =
            objections.is_empty() && matches!(standing, Standing::Inside(_) | Standing::Nowhere);
        if succeeds {
            assert_eq!(self.user_of(&subject).await, own, "WALL_SEED={}: {subject}", self.seed);
        }
        let since = self.now();
        let reply = self.send(&attempt).await;
        let inside = matches!(standing, Standing::Inside(_));
        self.check(&attempt, &reply, inside.then_some(here.index), since);
        let slug = here.slug.clone();
        let is_member = here.role_of(caller).is_some();
        drop(here);
        if self.stopped(&attempt, &reply, standing).await {
            return;
        }
        let Some(payload) = self.judge(&attempt, &reply, &objections, mutations.name) else {
            return self.compare_with_unknown_identity(&attempt, id, &objections, &reply).await;
        };
        self.unlinked(&attempt, &payload);
        let mut left: Vec<Value> = payload["viewer"]["identities"].as_array().unwrap().clone();
        left.sort_by_key(|identity| identity["id"].to_string());
        let expected = self.identities_of(caller);
        if left.iter().map(|identity| &identity["id"]).ne(expected.iter().map(|one| &one["id"])) {
            self.fail(&attempt, &reply, &format!("expected {expected:?}"));
        }
        for organization in &globe.organizations {
            organization.write().await.apply_unlink(caller);
        }
        // It signs in as a new user, who is in no organization.
        assert_ne!(self.user_of(&subject).await, own, "WALL_SEED={}: {subject}", self.seed);
        if is_member {
            let path = format!("/org/{slug}");
            let reply = self.ask_as(&subject, &path, "{ organization { id } }").await;
            reply.assert_refused(404, "NOT_FOUND");
        }
    }

    /// What is not the caller's and what does not exist are the same answer.
    async fn compare_with_unknown_identity(
        &self,
        attempt: &Attempt,
        id: Option<Uuid>,
        objections: &[&str],
        reply: &Reply,
    ) {
        if id.is_none() || objections != ["NOT_FOUND"] {
            return;
        }
        let mut twin = attempt.clone();
        twin.variables["input"]["id"] = json!(new_id(&mut self.rng(attempt.number)));
        let answer = self.send(&twin).await;
        if (answer.status, &answer.text) != (reply.status, &reply.text) {
            self.fail(&twin, &answer, &format!("an unknown id looks different: {}", reply.text));
        }
    }

    /// Takes an identity out of the model, once.
    pub fn unlinked(&self, attempt: &Attempt, payload: &Value) {
        let id = uuid(&attempt.variables["input"]["id"]).unwrap();
        let identity = self.ownership.lock().unwrap().identities.remove(&id);
        assert!(
            identity.is_some_and(|identity| {
                identity.person == attempt.caller
                    && identity.subject != self.people[attempt.caller].tag
            }),
            "WALL_SEED={}: {attempt:?}: {payload}",
            self.seed
        );
    }

    /// As the API lists them, sorted by id.
    pub fn identities_of(&self, person: usize) -> Vec<Value> {
        let ownership = self.ownership.lock().unwrap();
        let list = ownership
            .identities_of(person)
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

    /// An attempt at random, wherever the caller is.
    pub fn prepare_unlink(&self, rng: &mut Rng, attempt: &mut Attempt, here: &Organization) {
        let mut generator = self.generator(rng, here);
        let mutations = generator.unlink(attempt.caller);
        attempt.document = generator.document(mutations.name);
        attempt.place = Place::default();
        attempt.variables = json!({ "input": mutations.input });
    }

    /// Fails unless the identities of people are those of the model.
    pub async fn compare_identities(&self) {
        let mut connection = self.app.database.connect_admin().await;
        let sql = "SELECT user_id, subject FROM auth.identities WHERE issuer = ''";
        let rows = connection.fetch_all(sql).await.unwrap();
        let ownership = self.ownership.lock().unwrap();
        for (person, User { id, .. }) in self.people.iter().enumerate() {
            let mut found: Vec<String> = rows
                .iter()
                .filter(|row| row.get::<Uuid, _>("user_id") == *id)
                .map(|row| row.get("subject"))
                .collect();
            found.sort();
            let identities = ownership.identities_of(person);
            let mut expected: Vec<_> = identities.map(|(_, one)| one.subject.clone()).collect();
            expected.sort();
            assert_eq!(found, expected, "WALL_SEED={}: identities of {id}", self.seed);
        }
    }
}
