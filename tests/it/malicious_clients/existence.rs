//! Outsiders cannot distinguish an organization that exists from one that does not: not by any
//! response, however often and however concurrently they ask, and regardless of what the members
//! do.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::transports::{self, Response, Transport, ask};
use crate::support::{App, AppSettings, HANG, app::token_with};

const ACME: &str = "00000000-0000-4000-8000-00000000000a";
const NOBODY_S: &str = "00000000-0000-4000-8000-0000000000ff";

fn token(subject: &str, organization: &Value) -> String {
    token_with(&json!({ "sub": subject, "org": organization }))
}

/// Names of an existing organization for the path and the claim, each with the same for a missing
/// one.
fn pairs() -> Vec<[(String, Value); 2]> {
    let slugs = [
        ["acme", "nowhere"],
        ["acme-old", "nowhere-old"],
        [ACME, NOBODY_S],
        ["ACME", "NOWHERE"],
        ["%20acme", "%20nowhere"],
        ["acme%00", "nowhere%00"],
        ["acme%20", "nowhere%20"],
        ["%61cme", "%6eowhere"],
        ["%D0%B0cme", "n%D0%BEwhere"],
        ["acme%E2%80%8B", "nowhere%E2%80%8B"],
    ];
    let none = || Value::Null;
    let mut pairs: Vec<_> =
        slugs.map(|pair| pair.map(|slug| (format!("/org/{slug}"), none()))).to_vec();
    for pair in [
        ["acme", "nowhere"],
        ["acme-old", "nowhere-old"],
        [ACME, NOBODY_S],
        ["00000000-0000-4000-8000-00000000000A", "00000000-0000-4000-8000-0000000000FF"],
        ["{00000000-0000-4000-8000-00000000000a}", "{00000000-0000-4000-8000-0000000000ff}"],
        ["ACME", "NOWHERE"],
        [" acme ", " nowhere "],
        ["\u{430}cme", "n\u{43e}where"],
        ["acme\0", "nowhere\0"],
    ] {
        pairs.push(pair.map(|claim| (String::new(), json!(claim))));
        pairs.push(pair.map(|claim| (format!("/org/{}", pair[0].trim()), json!(claim))));
        pairs.push(pair.map(|claim| ("/org/globex".to_owned(), json!(claim))));
    }
    pairs
}

async fn with_a_retired_slug(settings: AppSettings) -> App {
    let app = App::with(settings).await;
    app.database
        .execute(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at)
                  SELECT 'acme-old', id, now() FROM app.organizations WHERE slug = 'acme'",
        )
        .await;
    app
}

fn assert_reveals_nothing(response: &Response) {
    assert!(response.status < 500 || response.status >= 4_400, "{response:?}");
    let limits = response.headers.iter().find(|(name, _)| name.starts_with("ratelimit"));
    assert_eq!(limits, None, "{response:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn existing_and_missing_organizations_get_the_same_response_over_every_transport() {
    let app = with_a_retired_slug(AppSettings::default()).await;
    let http = reqwest::Client::new();
    let mut different = Vec::new();
    for subject in ["unknown-user", "globex-owner"] {
        for [(path, claim), (other_path, other_claim)] in pairs() {
            // A claim equal to the path is no mismatch, which says nothing about existence.
            let named = |path: &str, claim: &Value| {
                claim.as_str().is_some_and(|claim| path == format!("/org/{}", claim.trim()))
            };
            if named(&path, &claim) != named(&other_path, &other_claim)
                || subject == "globex-owner" && path == "/org/globex" && claim.is_null()
            {
                continue;
            }
            for transport in transports::ALL {
                let exists = ask(&http, &app, transport, &path, &token(subject, &claim)).await;
                let does_not =
                    ask(&http, &app, transport, &other_path, &token(subject, &other_claim)).await;
                assert_reveals_nothing(&exists);
                if exists != does_not {
                    different.push(format!("{subject}, {transport:?}, {path} {claim}: {exists:?}\n  {other_path} {other_claim}: {does_not:?}"));
                }
            }
        }
    }
    assert!(different.is_empty(), "{}:\n{}", different.len(), different.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_attempts_reveal_no_more_than_one() {
    let app =
        with_a_retired_slug(AppSettings { running: 1, waiting: 4, ..AppSettings::default() }).await;
    let http = reqwest::Client::new();
    let outsider = token("unknown-user", &Value::Null);
    for transport in [Transport::Post, Transport::Get, Transport::Change] {
        let mut response = [BTreeSet::new(), BTreeSet::new()];
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..100 {
            for (index, path) in ["/org/acme", "/org/nowhere"].into_iter().enumerate() {
                let started = Instant::now();
                response[index].insert(ask(&http, &app, transport, path, &outsider).await);
                times[index].push(started.elapsed());
            }
        }
        let medians = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        eprintln!(
            "{transport:?}: {:?} where it exists, {:?} where it does not, in the median",
            medians[0], medians[1]
        );
        assert_eq!(response[0], response[1]);
        assert_eq!(response[0].len(), 1, "{response:?}");
        // All at once: permits are counted for the outsider, whichever organization they name.
        let mut crowds = Vec::new();
        for path in ["/org/acme", "/org/nowhere"] {
            let response =
                join_all((0..60).map(|_| ask(&http, &app, transport, path, &outsider))).await;
            response.iter().for_each(assert_reveals_nothing);
            let response: BTreeSet<Response> = response.into_iter().collect();
            assert!(
                response.iter().all(|response| [404, 429].contains(&response.status)),
                "{response:?}"
            );
            crowds.push(response);
        }
        assert_eq!(crowds[0], crowds[1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_of_the_members_reveals_nothing_to_an_outsider() {
    let settings =
        AppSettings { running: 1, waiting: 2, max_connections: 8, ..AppSettings::default() };
    let app = with_a_retired_slug(settings).await;
    let http = reqwest::Client::new();
    let ask_both = async |app: &App| {
        let outsider = token("unknown-user", &Value::Null);
        let started = Instant::now();
        let response = [
            ask(&http, app, Transport::Post, "/org/acme", &outsider).await,
            ask(&http, app, Transport::Post, "/org/nowhere", &outsider).await,
        ];
        assert!(started.elapsed() < Duration::from_secs(8), "an outsider waits for members");
        assert_eq!(response[0].status, 404, "{response:?}");
        assert_eq!(response[0], response[1]);
    };
    let owner = app.user("acme-owner");
    // Cache the member's session. Then all permits are taken.
    owner.data("{ organization { projects { nodes { id } } } }").await;
    let lock = app.database.connect_admin().await;
    lock.batch("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let owner = app.user("acme-owner");
            tokio::spawn(async move {
                owner.query("{ organization { projects { nodes { id } } } }").await
            })
        })
        .collect();
    let started = Instant::now();
    while app.service.concurrency.load() != (1, 2) {
        assert!(started.elapsed() < HANG, "{:?}", app.service.concurrency.load());
        tokio::task::yield_now().await;
    }
    assert_eq!(
        owner.query("{ organization { id } }").await.status,
        429,
        "the members have no permit left"
    );
    ask_both(&app).await;
    lock.batch("ROLLBACK").await.unwrap();
    for member in waiting {
        let _ = member.await.unwrap();
    }
    // The calls of the month are also used up.
    app.database.execute("UPDATE billing.plan_features SET limit_value = 0 WHERE feature = 'api_calls_per_month'").await;
    let started = Instant::now();
    while owner.query("{ organization { id } }").await.status != 429 {
        assert!(started.elapsed() < HANG, "the limit never takes effect");
        app.database.execute("UPDATE billing.usage SET used = 1000000000").await;
        app.database.execute("UPDATE billing.organization_billing SET updated_at = now()").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ask_both(&app).await;
}
