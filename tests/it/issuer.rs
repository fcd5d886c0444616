//! Tokens of a real identity provider: key rotation, outages and floods of unknown keys.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use tenantry::auth::{Algorithm, JwksOptions};

use crate::support::{App, AppSettings, Client, HANG, app, node::Script};

/// An issuer in a separate process.
struct Issuer {
    script: Script,
    url: String,
}

impl Issuer {
    /// Returns `None` if npm is not installed.
    async fn start() -> Option<Self> {
        let mut script = Script::start("issuer.mjs").await?;
        let url = script.text(&json!({ "do": "start" }));
        Some(Self { script, url })
    }

    fn key(&mut self, algorithm: &str) -> String {
        self.script.text(&json!({ "do": "key", "alg": algorithm }))
    }

    fn token(&mut self, key: &str, claims: &Value) -> String {
        let mut all = json!({ "sub": "acme-owner", "exp": Utc::now().timestamp() + 3_600 });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.script.text(&json!({ "do": "token", "kid": key, "claims": all }))
    }

    fn requests(&mut self) -> i64 {
        self.script.ask(&json!({ "do": "requests" })).as_i64().unwrap()
    }

    /// Starts an app that trusts this issuer.
    async fn app(&self, algorithms: &[Algorithm], cooldown: Duration, max_age: Duration) -> App {
        let issuer = Some(JwksOptions {
            url: self.url.parse().unwrap(),
            algorithms: algorithms.to_vec(),
            cooldown,
            max_age,
        });
        App::with(AppSettings { issuer, ..AppSettings::default() }).await
    }
}

const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(300);

macro_rules! issuer_or_skip {
    () => {
        match Issuer::start().await {
            Some(issuer) => issuer,
            None => {
                eprintln!("SKIPPED: npm is not installed");
                return;
            }
        }
    };
}

fn holder(app: &App, token: &str) -> Client {
    app.client(Some("acme"), Some(token.to_owned()))
}

async fn accepted(app: &App, token: &str) -> bool {
    is_accepted(&holder(app, token)).await
}

async fn is_accepted(holder: &Client) -> bool {
    let reply = holder.query("{ viewer { name } }").await;
    match reply.status.as_u16() {
        200 => true,
        401 => false,
        _ => panic!("{reply:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_all_three_algorithms_are_verified_with_keys_fetched_once() {
    let mut issuer = issuer_or_skip!();
    let app = issuer.app(&ALL, LONG, LONG).await;
    let keys = ["RS256", "ES256", "EdDSA"].map(|algorithm| issuer.key(algorithm));
    let tokens = keys.each_ref().map(|key| issuer.token(key, &json!({})));
    // Concurrent requests before any key is known cause one fetch.
    let fetches = (0..30).map(|n| accepted(&app, &tokens[n % 3]));
    assert!(futures_util::future::join_all(fetches).await.into_iter().all(|accepted| accepted));
    assert_eq!(issuer.requests(), 1);
    let data =
        holder(&app, &tokens[0]).data("{ viewer { name } organization { viewerRole } }").await;
    assert_eq!(
        data,
        json!({ "viewer": { "name": "Olivia" }, "organization": { "viewerRole": "OWNER" } })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_or_expired_token_is_rejected() {
    let mut issuer = issuer_or_skip!();
    let app = issuer.app(&[Algorithm::RS256, Algorithm::ES256], LONG, LONG).await;
    let (rsa, second, edwards) = (issuer.key("RS256"), issuer.key("RS256"), issuer.key("EdDSA"));
    let good = issuer.token(&rsa, &json!({}));
    assert!(accepted(&app, &good).await);
    let now = Utc::now().timestamp();
    let parts: Vec<&str> = good.split('.').collect();
    let other = issuer.token(&rsa, &json!({ "sub": "acme-admin" }));
    let spliced = [parts[0], other.split('.').nth(1).unwrap(), parts[2]].join(".");
    for bad in [
        issuer.token(&edwards, &json!({})),
        issuer.token(&rsa, &json!({ "exp": now - 60 })),
        issuer.token(&rsa, &json!({ "nbf": now + 60 })),
        // Signed by one key, with the id of another.
        issuer.token(&rsa, &json!({ "__kid": second })),
        issuer.token(&rsa, &json!({ "__kid": "unknown" })),
        spliced,
        // HS256 with public key material: the confusion of RFC 8725, section 2.1.
        app::token("acme-owner"),
        format!("{}.{}.", "eyJhbGciOiJub25lIn0", parts[1]),
        "x".repeat(20_000),
    ] {
        assert!(!accepted(&app, &bad).await, "{bad}");
    }
    assert!(accepted(&app, &good).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_keys_are_fetched_and_withdrawn_ones_dropped() {
    let mut issuer = issuer_or_skip!();
    let app = issuer.app(&ALL, Duration::ZERO, SHORT).await;
    let first = issuer.key("RS256");
    let old = issuer.token(&first, &json!({}));
    assert!(accepted(&app, &old).await);
    let second = issuer.key("ES256");
    let new = issuer.token(&second, &json!({}));
    assert!(accepted(&app, &new).await, "an unknown key causes a fetch");
    issuer.script.ask(&json!({ "do": "forget", "kid": first }));
    let start = std::time::Instant::now();
    while accepted(&app, &old).await {
        assert!(start.elapsed() < HANG, "a withdrawn key is still accepted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(accepted(&app, &new).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_an_outage_of_the_issuer_its_last_keys_are_used() {
    let mut issuer = issuer_or_skip!();
    let app = issuer.app(&ALL, Duration::ZERO, SHORT).await;
    let key = issuer.key("RS256");
    let token = issuer.token(&key, &json!({}));
    issuer.script.ask(&json!({ "do": "stop" }));
    let reply = holder(&app, &token).query("{ viewer { id } }").await;
    reply.assert_refused(503, "UNAVAILABLE");
    assert!(reply.headers.contains_key("retry-after"));
    issuer.script.ask(&json!({ "do": "start" }));
    assert!(accepted(&app, &token).await, "the first keys are fetched as soon as possible");
    issuer.script.ask(&json!({ "do": "stop" }));
    for _ in 0..5 {
        tokio::time::sleep(SHORT).await;
        let fresh = issuer.token(&key, &json!({ "jti": Utc::now().to_rfc3339() }));
        assert!(accepted(&app, &fresh).await && accepted(&app, &token).await);
    }
    // Whether a new key exists is unknown during the outage, so the error is not 401.
    let unknown = issuer.token(&key, &json!({ "__kid": "new" }));
    holder(&app, &unknown).query("{ viewer { id } }").await.assert_refused(503, "UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_disconnects_does_not_delay_new_keys_for_others() {
    let mut issuer = issuer_or_skip!();
    let app = issuer.app(&ALL, Duration::from_millis(300), LONG).await;
    let first = issuer.key("RS256");
    assert!(accepted(&app, &issuer.token(&first, &json!({}))).await);
    let second = issuer.key("RS256");
    let new = issuer.token(&second, &json!({}));
    issuer.script.ask(&json!({ "do": "slow", "milliseconds": 400 }));
    let fetches_before = issuer.requests();
    let started = std::time::Instant::now();
    while issuer.requests() == fetches_before {
        assert!(started.elapsed() < HANG, "the keys are never fetched");
        let bogus =
            issuer.token(&first, &json!({ "__kid": started.elapsed().as_micros().to_string() }));
        let hanging = tokio::time::timeout(Duration::from_millis(40), accepted(&app, &bogus));
        drop(hanging.await);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    // The fetch outlives the caller who caused it and serves the next one.
    let fetches = issuer.requests();
    assert!(accepted(&app, &new).await);
    assert_eq!(issuer.requests(), fetches, "the new key needed a separate fetch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_keys_all_callers_wait_for_one_fetch() {
    let mut issuer = issuer_or_skip!();
    let app = issuer.app(&ALL, LONG, LONG).await;
    let key = issuer.key("ES256");
    let token = issuer.token(&key, &json!({}));
    issuer.script.ask(&json!({ "do": "slow", "milliseconds": 1500 }));
    let waiting = (0..6).map(|_| accepted(&app, &token));
    assert!(futures_util::future::join_all(waiting).await.into_iter().all(|accepted| accepted));
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_without_ids_are_tried_and_fetched_again() {
    let mut issuer = issuer_or_skip!();
    issuer.script.ask(&json!({ "do": "nameless" }));
    let app = issuer.app(&ALL, Duration::ZERO, LONG).await;
    let (first, second) = (issuer.key("RS256"), issuer.key("RS256"));
    for key in [&first, &second] {
        let token = issuer.token(key, &json!({ "__kid": null }));
        assert!(accepted(&app, &token).await);
    }
    let third = issuer.key("RS256");
    let token = issuer.token(&third, &json!({ "__kid": null }));
    assert!(accepted(&app, &token).await, "a signature that matches no key may be of a new key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_unknown_keys_does_not_reach_the_issuer() {
    let mut issuer = issuer_or_skip!();
    let app = issuer.app(&ALL, LONG, LONG).await;
    let key = issuer.key("RS256");
    let good = issuer.token(&key, &json!({}));
    assert!(accepted(&app, &good).await);
    let flood: Vec<_> =
        (0..200).map(|n| issuer.token(&key, &json!({ "__kid": format!("k{n}") }))).collect();
    // Create the clients first: that takes long and would delay the first requests.
    let holders: Vec<_> = flood.iter().map(|token| holder(&app, token)).collect();
    let refused = futures_util::future::join_all(holders.iter().map(is_accepted)).await;
    assert!(refused.into_iter().all(|accepted| !accepted));
    assert_eq!(issuer.requests(), 1);
    assert!(accepted(&app, &good).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_token_expires_on_time() {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };
    let mut issuer = issuer_or_skip!();
    let offset = Arc::new(AtomicI64::new(0));
    let clock = {
        let offset = Arc::clone(&offset);
        tenantry::clock::Clock::from_fn(move || {
            Utc::now() + chrono::TimeDelta::seconds(offset.load(Ordering::Relaxed))
        })
    };
    let options = JwksOptions {
        url: issuer.url.parse().unwrap(),
        algorithms: ALL.to_vec(),
        cooldown: LONG,
        max_age: LONG,
    };
    let app =
        App::with(AppSettings { issuer: Some(options), clock, ..AppSettings::default() }).await;
    let key = issuer.key("EdDSA");
    let token = issuer.token(&key, &json!({ "exp": Utc::now().timestamp() + 60 }));
    assert!(accepted(&app, &token).await && accepted(&app, &token).await);
    offset.store(60 + 31, Ordering::Relaxed);
    assert!(!accepted(&app, &token).await);
}
