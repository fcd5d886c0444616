//! Subscribers during the random operations: every event is checked against the same ownership.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::{Harness, further_resources, model::Role, ownership::Viewpoint, token};

const USER: &str = "{ __typename id name email }";

/// Every subscription, and the lowest role that may use it.
fn subscriptions() -> Vec<(Role, String)> {
    let mut subscriptions = vec![
        (
            Role::Viewer,
            format!("projectChanged {{ id project {{ id name description createdBy {USER} }} }}"),
        ),
        (
            Role::Viewer,
            format!("memberChanged {{ id member {{ id role user {USER} invitedBy {USER} }} }}"),
        ),
        (
            Role::Admin,
            format!("auditLogAdded {{ id actorName action resourceId metadata actor {USER} }}"),
        ),
        (Role::Viewer, "entitlementChanged { feature { key } limit used }".to_owned()),
    ];
    subscriptions.extend(further_resources::subscriptions().map(|field| (Role::Viewer, field)));
    subscriptions
}

struct Subscriber {
    caller: usize,
    organization: usize,
    slug: String,
    subscription: String,
}

/// Subscribes to every topic of every organization that has a member with the required role.
pub async fn start(harness: &Arc<Harness>, stop: &watch::Receiver<bool>) -> JoinSet<usize> {
    let mut subscribers = JoinSet::new();
    for organization in &harness.shared.read().await.organizations {
        let here = organization.read().await;
        for (required_role, subscription) in subscriptions() {
            let membership = here
                .memberships
                .values()
                .find(|membership| membership.role >= required_role && !here.ended);
            let Some(membership) = membership else { continue };
            let subscriber = Subscriber {
                caller: membership.user,
                organization: here.index,
                slug: here.slug.clone(),
                subscription,
            };
            let response = harness.subscribe(&subscriber).await;
            subscribers.spawn(Arc::clone(harness).receive(subscriber, response, stop.clone()));
        }
    }
    subscribers
}

impl Harness {
    async fn subscribe(&self, subscriber: &Subscriber) -> reqwest::Response {
        let request = self
            .http
            .post(format!("{}/org/{}/graphql", self.app.base, subscriber.slug))
            .header("accept", "text/event-stream")
            .bearer_auth(token(&self.users[subscriber.caller], None))
            .json(&json!({ "query": format!("subscription {{ {} }}", subscriber.subscription) }));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", subscriber.subscription);
        response
    }

    /// Returns the number of events until the subscription ends or is stopped.
    async fn receive(
        self: Arc<Self>,
        subscriber: Subscriber,
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
                let data = event.lines().find_map(|line| line.strip_prefix("data:"));
                if let Some(data) = data.filter(|data| !data.trim().is_empty()) {
                    self.check_event(&subscriber, &serde_json::from_str(data).unwrap());
                    events += 1;
                }
                text = rest.to_owned();
            }
        }
    }

    fn check_event(&self, subscriber: &Subscriber, event: &Value) {
        let mut ownership = self.ownership.lock().unwrap();
        let since = ownership.tick();
        let organization = Some(subscriber.organization);
        let viewpoint = Viewpoint { caller: subscriber.caller, organization, sent: &[], since };
        let leak = ownership.inspect(&viewpoint, event);
        for response in ownership.unknown.values_mut().filter(|text| text.is_empty()) {
            *response = format!("{}: {event}", subscriber.subscription);
        }
        drop(ownership);
        let context =
            format!("ISOLATION_SEED={}: {} received {event}", self.seed, subscriber.subscription);
        assert!(leak.is_ok(), "{leak:?} {context}");
        for error in event["errors"].as_array().into_iter().flatten() {
            // A subscriber who loses the membership or the permission gets an error.
            let code = error["extensions"]["code"].as_str().unwrap();
            assert!(["NOT_FOUND", "FORBIDDEN"].contains(&code), "{context}");
        }
    }
}
