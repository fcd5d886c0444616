//! Whether a slug is taken is said to a user who wants it, and not to one who tries many: a
//! mutation that fails on purpose is an attempt as well.

use std::num::NonZeroU32;

use serde_json::json;

use crate::support::{App, AppSettings, Client, Reply, app::token};

const ATTEMPTS: u32 = 3;

async fn app() -> App {
    let attempts = NonZeroU32::new(ATTEMPTS).unwrap();
    App::with(AppSettings { attempts, ..AppSettings::default() }).await
}

/// A guess that leaves nothing behind: the other field fails.
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
async fn slugs_cannot_be_guessed_for_long_by_mutations_that_fail_on_purpose() {
    let app = app().await;
    let owner = app.person("acme-owner");
    // What is counted once, and what leases calls, is not what this looks at.
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
    // A new organization is no other way to guess, and other changes go on.
    found(&owner, "globex").await.assert_refused(429, "RATE_LIMITED");
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    owner.data(create).await;
}

#[tokio::test]
async fn slugs_cannot_be_guessed_for_long_from_outside() {
    let app = app().await;
    let stranger = app.stranger("guesser");
    for _ in 0..ATTEMPTS {
        found(&stranger, "globex").await.assert_failed("CONFLICT");
    }
    found(&stranger, "globex").await.assert_refused(429, "RATE_LIMITED");
    let owner = app.client(Some("acme"), Some(token("acme-owner")));
    assert_eq!(guess(&owner, "globex").await.codes(), ["CONFLICT"]);
}

#[tokio::test]
async fn each_guess_of_a_request_is_an_attempt() {
    let app = app().await;
    let owner = app.person("acme-owner");
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
async fn all_users_of_an_address_share_its_guesses() {
    let attempts_by_address = NonZeroU32::new(ATTEMPTS).unwrap();
    let app = App::with(AppSettings { attempts_by_address, ..AppSettings::default() }).await;
    for n in 0..ATTEMPTS {
        found(&app.stranger(&format!("guesser-{n}")), "globex").await.assert_failed("CONFLICT");
    }
    found(&app.stranger("another"), "globex").await.assert_refused(429, "RATE_LIMITED");
}

#[tokio::test]
async fn a_slug_that_is_taken_reserved_or_retired_gets_the_same_answer() {
    let app = App::start().await;
    app.database
        .execute(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at)
             SELECT 'globex-old', id, now() FROM app.organizations WHERE slug = 'globex'",
        )
        .await;
    let stranger = app.stranger("stranger");
    let owner = app.person("acme-owner");
    for (slug, request) in ["globex", "admin", "globex-old"].map(|slug| (slug, "")) {
        let texts = [found(&stranger, slug).await, guess(&owner, slug).await].map(|reply| {
            assert_eq!((reply.status.as_u16(), reply.codes()), (200, vec!["CONFLICT"]));
            reply.text.replace(slug, request)
        });
        let expected = [found(&stranger, "globex").await, guess(&owner, "globex").await];
        assert_eq!(texts, expected.map(|reply| reply.text.replace("globex", "")), "{slug}");
    }
}
