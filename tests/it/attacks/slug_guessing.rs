//! Slug guessing: a user who wants a slug learns whether it is taken, but one who tries many is
//! stopped. A mutation that fails on purpose counts as an attempt.

use std::num::NonZeroU32;

use serde_json::json;

use crate::support::{App, AppSettings, Client, Reply, app::token};

const ATTEMPTS: u32 = 3;

async fn app() -> App {
    let attempts = NonZeroU32::new(ATTEMPTS).unwrap();
    App::with(AppSettings { attempts, ..AppSettings::default() }).await
}

/// Guesses a slug without a trace: the other field of the mutation fails.
fn guess(client: &Client, slug: &str) -> impl Future<Output = Reply> {
    let client = client.clone();
    let query = format!(
        "mutation {{ updateOrganization(input: {{ slug: \"{slug}\" }}) {{ organization {{ id }} }}
         deleteProject(input: {{ id: \"none\" }}) {{ project {{ id }} }} }}"
    );
    async move { client.query(&query).await }
}

fn found(client: &Client, slug: &str) -> impl Future<Output = Reply> {
    let client = client.clone();
    let input = json!({ "input": { "name": "x", "slug": slug } });
    let query = "mutation ($input: CreateOrganizationInput!) {
        createOrganization(input: $input) { organization { id } } }";
    async move { client.query_with(query, input).await }
}

#[tokio::test]
async fn guessing_slugs_by_failing_mutations_is_rate_limited() {
    let app = app().await;
    let owner = app.user("acme-owner");
    // Count the first call and lease further calls, so that neither changes the database during the
    // test.
    owner.data("{ organization { name } }").await;
    let before = app.database.fingerprint().await;
    for n in 0..ATTEMPTS {
        let reply = guess(&owner, &format!("guess-{n}")).await;
        assert_eq!(reply.codes(), ["NOT_FOUND"], "{reply:?}");
    }
    let refused = guess(&owner, "globex").await;
    refused.assert_refused(429, "RATE_LIMITED");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(app.database.fingerprint().await, before);
    // Creating an organization shares the limit, and other mutations continue.
    found(&owner, "globex").await.assert_refused(429, "RATE_LIMITED");
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    owner.data(create).await;
}

#[tokio::test]
async fn guessing_slugs_from_outside_is_rate_limited() {
    let app = app().await;
    let outsider = app.outsider("guesser");
    for _ in 0..ATTEMPTS {
        found(&outsider, "globex").await.assert_failed("CONFLICT");
    }
    found(&outsider, "globex").await.assert_refused(429, "RATE_LIMITED");
    let owner = app.client(Some("acme"), Some(token("acme-owner")));
    assert_eq!(guess(&owner, "globex").await.codes(), ["CONFLICT"]);
}

#[tokio::test]
async fn each_guess_in_a_request_counts_as_an_attempt() {
    let app = app().await;
    let owner = app.user("acme-owner");
    let guess = |n| {
        format!(
            "g{n}: updateOrganization(input: {{ slug: \"guess-{n}\" }}) {{ organization {{ id }} }}"
        )
    };
    let guesses: Vec<_> = (0..=ATTEMPTS).map(guess).collect();
    owner
        .query(&format!("mutation {{ {} }}", guesses.join(" ")))
        .await
        .assert_refused(429, "RATE_LIMITED");
}

#[tokio::test]
async fn users_of_one_address_share_the_limit_of_guesses() {
    let attempts_by_address = NonZeroU32::new(ATTEMPTS).unwrap();
    let app = App::with(AppSettings { attempts_by_address, ..AppSettings::default() }).await;
    for n in 0..ATTEMPTS {
        found(&app.outsider(&format!("guesser-{n}")), "globex").await.assert_failed("CONFLICT");
    }
    found(&app.outsider("another"), "globex").await.assert_refused(429, "RATE_LIMITED");
}

#[tokio::test]
async fn taken_reserved_and_retired_slugs_get_the_same_response() {
    let app = App::start().await;
    app.database
        .execute(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at)
             SELECT 'globex-old', id, now() FROM app.organizations WHERE slug = 'globex'",
        )
        .await;
    let outsider = app.outsider("outsider");
    let owner = app.user("acme-owner");
    for (slug, request) in ["globex", "admin", "globex-old"].map(|slug| (slug, "")) {
        let texts = [found(&outsider, slug).await, guess(&owner, slug).await].map(|reply| {
            assert_eq!((reply.status.as_u16(), reply.codes()), (200, vec!["CONFLICT"]));
            reply.text.replace(slug, request)
        });
        let expected = [found(&outsider, "globex").await, guess(&owner, "globex").await];
        assert_eq!(texts, expected.map(|reply| reply.text.replace("globex", "")), "{slug}");
    }
}
