//! Somebody who is no member: an organization that exists and one that does not are told apart by
//! nothing, however often and however many at once somebody asks, and whatever the members do
//! meanwhile.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::Executor;

use super::ways::{self, Told, Way, ask};
use crate::support::{App, AppSettings, app::token_with};

const ACME: &str = "00000000-0000-4000-8000-00000000000a";
const NOBODY_S: &str = "00000000-0000-4000-8000-0000000000ff";

fn token(subject: &str, organization: &Value) -> String {
    token_with(&json!({ "sub": subject, "org": organization }))
}

/// What names an organization that exists, in the path and in the claim, and the same for one that
/// does not.
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

fn assert_tells_nothing(told: &Told) {
    assert!(told.status < 500 || told.status >= 4_400, "{told:?}");
    let limits = told.headers.iter().find(|(name, _)| name.starts_with("ratelimit"));
    assert_eq!(limits, None, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_exists_and_what_does_not_get_the_same_answer_on_every_way() {
    let app = with_a_retired_slug(AppSettings::default()).await;
    let http = reqwest::Client::new();
    let mut different = Vec::new();
    for subject in ["nobody-known", "globex-owner"] {
        for [(path, claim), (other_path, other_claim)] in pairs() {
            // A claim of the organization in the path is no contradiction: that is what it says,
            // not what exists.
            let named = |path: &str, claim: &Value| {
                claim.as_str().is_some_and(|claim| path == format!("/org/{claim}"))
            };
            if named(&path, &claim) != named(&other_path, &other_claim)
                || subject == "globex-owner" && path == "/org/globex" && claim.is_null()
            {
                continue;
            }
            for way in ways::ALL {
                let exists = ask(&http, &app, way, &path, &token(subject, &claim)).await;
                let does_not =
                    ask(&http, &app, way, &other_path, &token(subject, &other_claim)).await;
                assert_tells_nothing(&exists);
                if exists != does_not {
                    different.push(format!("{subject}, {way:?}, {path} {claim}: {exists:?}\n  {other_path} {other_claim}: {does_not:?}"));
                }
            }
        }
    }
    assert!(different.is_empty(), "{}:\n{}", different.len(), different.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_attempts_tell_no_more_than_one() {
    let app =
        with_a_retired_slug(AppSettings { running: 1, waiting: 4, ..AppSettings::default() }).await;
    let http = reqwest::Client::new();
    let stranger = token("nobody-known", &Value::Null);
    for way in [Way::Post, Way::Get, Way::Change] {
        let mut told = [BTreeSet::new(), BTreeSet::new()];
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..100 {
            for (index, path) in ["/org/acme", "/org/nowhere"].into_iter().enumerate() {
                let begun = Instant::now();
                told[index].insert(ask(&http, &app, way, path, &stranger).await);
                times[index].push(begun.elapsed());
            }
        }
        let medians = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        eprintln!(
            "{way:?}: {:?} where it exists, {:?} where it does not, in the median",
            medians[0], medians[1]
        );
        assert_eq!(told[0], told[1]);
        assert_eq!(told[0].len(), 1, "{told:?}");
        // All at once: turns are the stranger's own, wherever they want to go.
        let mut crowds = Vec::new();
        for path in ["/org/acme", "/org/nowhere"] {
            let told = join_all((0..60).map(|_| ask(&http, &app, way, path, &stranger))).await;
            told.iter().for_each(assert_tells_nothing);
            let told: BTreeSet<Told> = told.into_iter().collect();
            assert!(told.iter().all(|told| [404, 429].contains(&told.status)), "{told:?}");
            crowds.push(told);
        }
        assert_eq!(crowds[0], crowds[1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_members_do_tells_a_stranger_nothing() {
    let settings =
        AppSettings { running: 1, waiting: 2, max_connections: 8, ..AppSettings::default() };
    let app = with_a_retired_slug(settings).await;
    let http = reqwest::Client::new();
    let ask_both = async |app: &App| {
        let stranger = token("nobody-known", &Value::Null);
        let begun = Instant::now();
        let told = [
            ask(&http, app, Way::Post, "/org/acme", &stranger).await,
            ask(&http, app, Way::Post, "/org/nowhere", &stranger).await,
        ];
        assert!(begun.elapsed() < Duration::from_secs(8), "a stranger waits for members");
        assert_eq!(told[0].status, 404, "{told:?}");
        assert_eq!(told[0], told[1]);
    };
    let owner = app.person("acme-owner");
    // Known to the gates as a member's way, and then all turns are taken.
    owner.data("{ organization { projects { nodes { id } } } }").await;
    let mut lock = app.database.connect_admin().await;
    lock.execute("BEGIN; LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let owner = app.person("acme-owner");
            tokio::spawn(async move {
                owner.query("{ organization { projects { nodes { id } } } }").await
            })
        })
        .collect();
    let begun = Instant::now();
    while app.service.concurrency.load() != (1, 2) {
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", app.service.concurrency.load());
        tokio::task::yield_now().await;
    }
    assert_eq!(
        owner.query("{ organization { id } }").await.status,
        429,
        "the members have no turn left"
    );
    ask_both(&app).await;
    lock.execute("ROLLBACK").await.unwrap();
    for member in waiting {
        let _ = member.await.unwrap();
    }
    // And the calls of the month are used up.
    app.database.execute("UPDATE billing.plan_features SET limit_value = 0 WHERE feature = 'api_calls_per_month'").await;
    let begun = Instant::now();
    while owner.query("{ organization { id } }").await.status != 429 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the limit never holds");
        app.database.execute("UPDATE billing.usage SET used = 1000000000").await;
        app.database.execute("UPDATE billing.organization_billing SET updated_at = now()").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ask_both(&app).await;
}
