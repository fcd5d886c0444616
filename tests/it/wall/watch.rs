//! Those who watch while the storm goes on: what they are told is held against the same wall.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::{Wall, model::Role, register::Sight, token};

const PERSON: &str = "{ __typename id name email }";

/// Every subscription, for a role that may have it.
fn subscriptions() -> [(Role, String); 4] {
    [
        (
            Role::Viewer,
            format!("projectChanged {{ id project {{ id name description createdBy {PERSON} }} }}"),
        ),
        (
            Role::Viewer,
            format!("memberChanged {{ id member {{ id role user {PERSON} invitedBy {PERSON} }} }}"),
        ),
        (
            Role::Admin,
            format!("auditLogAdded {{ id actorName action resourceId metadata actor {PERSON} }}"),
        ),
        (Role::Viewer, "entitlementChanged { feature limit used }".to_owned()),
    ]
}

struct Watcher {
    caller: usize,
    organization: usize,
    slug: String,
    subscription: String,
}

/// Somebody who watches, for every subscription of every organization that has somebody for it.
pub async fn begin(wall: &Arc<Wall>, stop: &watch::Receiver<bool>) -> JoinSet<usize> {
    let mut watching = JoinSet::new();
    for organization in &wall.globe.read().await.organizations {
        let here = organization.read().await;
        for (least, subscription) in subscriptions() {
            let seat = here.seats.values().find(|seat| seat.role >= least && !here.ended);
            let Some(seat) = seat else { continue };
            let watcher = Watcher {
                caller: seat.person,
                organization: here.index,
                slug: here.slug.clone(),
                subscription,
            };
            let response = wall.subscribe(&watcher).await;
            watching.spawn(Arc::clone(wall).hear(watcher, response, stop.clone()));
        }
    }
    watching
}

impl Wall {
    async fn subscribe(&self, watcher: &Watcher) -> reqwest::Response {
        let request = self
            .http
            .post(format!("{}/org/{}/graphql", self.app.base, watcher.slug))
            .header("accept", "text/event-stream")
            .bearer_auth(token(&self.people[watcher.caller], None))
            .json(&json!({ "query": format!("subscription {{ {} }}", watcher.subscription) }));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", watcher.subscription);
        response
    }

    /// How many events there were, until it ends or is stopped.
    async fn hear(
        self: Arc<Self>,
        watcher: Watcher,
        mut response: reqwest::Response,
        mut stop: watch::Receiver<bool>,
    ) -> usize {
        let (mut text, mut events) = (String::new(), 0);
        loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk.unwrap(),
                _ = stop.wait_for(|stop| *stop) => None,
            };
            let Some(chunk) = chunk else { return events };
            text += std::str::from_utf8(&chunk).unwrap();
            while let Some((event, rest)) = text.split_once("\n\n") {
                let told = event.lines().find_map(|line| line.strip_prefix("data:"));
                if let Some(told) = told.filter(|told| !told.trim().is_empty()) {
                    self.check_event(&watcher, &serde_json::from_str(told).unwrap());
                    events += 1;
                }
                text = rest.to_owned();
            }
        }
    }

    fn check_event(&self, watcher: &Watcher, event: &Value) {
        let mut register = self.register.lock().unwrap();
        let since = register.tick();
        let organization = Some(watcher.organization);
        let sight = Sight { caller: watcher.caller, organization, sent: &[], since };
        let crossed = register.inspect(&sight, event);
        for told in register.unknown.values_mut().filter(|told| told.is_empty()) {
            *told = format!("{}: {event}", watcher.subscription);
        }
        drop(register);
        let told = format!("WALL_SEED={}: {} told {event}", self.seed, watcher.subscription);
        assert!(crossed.is_ok(), "{crossed:?} {told}");
        for error in event["errors"].as_array().into_iter().flatten() {
            // Whoever lost their place, or what the place allowed, is told so.
            let code = error["extensions"]["code"].as_str().unwrap();
            assert!(["NOT_FOUND", "FORBIDDEN"].contains(&code), "{told}");
        }
    }
}
