//! Who is calling, and in which organization.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tenantry::{
    auth::{self, EmailVerified},
    clock::Clock,
    tenancy::AccountLinking,
};

use crate::support::{App, AppSettings, app};

const WHERE: &str = "{ viewer { name } organization { slug viewerRole } }";
const ACME: &str = "00000000-0000-4000-8000-00000000000a";
const GLOBEX: &str = "00000000-0000-4000-8000-00000000000b";

fn owner_claiming(org: &Value) -> String {
    app::token_with(&json!({ "sub": "acme-owner", "org": org }))
}

#[tokio::test]
async fn the_path_names_the_organization() {
    let app = App::start().await;
    assert_eq!(
        app.user("acme-owner").data(WHERE).await,
        json!({ "viewer": { "name": "Olivia" }, "organization": { "slug": "acme", "viewerRole": "OWNER" } })
    );
    assert_eq!(
        app.user("globex-viewer").data(WHERE).await["organization"],
        json!({ "slug": "globex", "viewerRole": "VIEWER" })
    );
}

#[tokio::test]
async fn the_claim_names_the_organization_by_id_or_slug() {
    let app = App::start().await;
    app.database
        .execute(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at)
                  SELECT 'acme-old', id, now() FROM app.organizations WHERE slug = 'acme'",
        )
        .await;
    for claim in ["acme", ACME, &ACME.to_uppercase(), "acme-old"] {
        for path in [None, Some("acme"), Some("acme-old")] {
            let client = app.client(path, Some(owner_claiming(&json!(claim))));
            let data = client.data(WHERE).await;
            assert_eq!(data["organization"]["slug"], "acme", "{claim} at {path:?}");
        }
    }
    for nothing in [json!(null), json!("")] {
        let data = app.client(None, Some(owner_claiming(&nothing))).data(WHERE).await;
        assert_eq!(data["organization"], json!(null));
    }
}

#[tokio::test]
async fn a_mismatch_of_path_and_claim_is_rejected_whether_or_not_the_path_exists() {
    let app = App::start().await;
    let mut responses = Vec::new();
    for (path, claim) in [
        ("globex", "acme"),
        ("globex", ACME),
        ("nowhere", "acme"),
        ("nowhere", ACME),
        ("acme", "nowhere"),
        ("acme", GLOBEX),
        ("nowhere", "elsewhere"),
        ("acme", "not a slug"),
    ] {
        let reply = app.client(Some(path), Some(owner_claiming(&json!(claim)))).query(WHERE).await;
        reply.assert_refused(403, "ORGANIZATION_MISMATCH");
        responses.push(reply.text);
    }
    responses.dedup();
    assert_eq!(responses.len(), 1, "{responses:?}");
}

#[tokio::test]
async fn an_unknown_organization_and_a_foreign_one_get_the_same_response() {
    let app = App::start().await;
    let mut responses = Vec::new();
    for (path, claim) in [
        (Some("globex"), json!(null)),
        (Some("nowhere"), json!(null)),
        (Some("%20"), json!(null)),
        (Some(ACME), json!(null)),
        (Some(ACME), json!(ACME)),
        (None, json!("globex")),
        (None, json!(GLOBEX)),
        (None, json!("nowhere")),
        (Some("globex"), json!("globex")),
        (Some("globex"), json!(GLOBEX)),
    ] {
        let reply = app.client(path, Some(owner_claiming(&claim))).query(WHERE).await;
        reply.assert_refused(404, "NOT_FOUND");
        responses.push(reply.text);
    }
    responses.dedup();
    assert_eq!(responses.len(), 1, "{responses:?}");
}

#[tokio::test]
async fn without_an_organization_the_viewer_is_known() {
    let app = App::start().await;
    let client = app.client(None, Some(app::token("acme-owner")));
    let data = client
        .data(
            "{ viewer { name email memberships { organizationId name slug role } } organization { id }
               plans { key } planFeatures { feature { key } } errorCodes node(id: \"00000000-0000-4000-8000-00000000000a\") { id } }",
        )
        .await;
    assert_eq!(data["organization"], json!(null));
    assert_eq!(data["node"], json!(null));
    assert_eq!(data["viewer"]["email"], "acme-owner@example.com");
    assert_eq!(
        data["viewer"]["memberships"],
        json!([{ "organizationId": ACME, "name": "Acme", "slug": "acme", "role": "OWNER" }])
    );
    let reply =
        client.query("mutation { createProject(input: { name: \"x\" }) { project { id } } }").await;
    reply.assert_failed("ORGANIZATION_REQUIRED");
}

#[tokio::test]
async fn a_retired_slug_works_for_members_only() {
    let app = App::start().await;
    app.database
        .execute(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at)
                  SELECT 'acme-old', id, now() FROM app.organizations WHERE slug = 'acme'",
        )
        .await;
    let reply = app.client(Some("acme-old"), Some(app::token("acme-viewer"))).query(WHERE).await;
    assert_eq!(reply.body["extensions"]["organizationSlug"], "acme");
    assert_eq!(reply.data()["organization"]["slug"], "acme");
    let reply = app.client(None, Some(owner_claiming(&json!("acme-old")))).query(WHERE).await;
    assert_eq!(reply.body["extensions"]["organizationSlug"], "acme");
    let reply = app.client(None, Some(owner_claiming(&json!(ACME)))).query(WHERE).await;
    assert!(reply.body.get("extensions").is_none());
    let reply = app.client(Some("acme-old"), Some(app::token("globex-owner"))).query(WHERE).await;
    reply.assert_refused(404, "NOT_FOUND");
    let reply = app.user("acme-viewer").query(WHERE).await;
    assert!(reply.body.get("extensions").is_none());
}

#[tokio::test]
async fn a_removed_or_demoted_member_loses_access_with_the_next_request() {
    let app = App::start().await;
    let member = app.user("acme-member");
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    member.data(create).await;
    let where_member = "user_id = '00000000-0000-4000-8000-0000000000a3'";
    app.database
        .execute(&format!(
            "UPDATE auth.organization_members SET role = 'viewer' WHERE {where_member}"
        ))
        .await;
    member.query(create).await.assert_failed("FORBIDDEN");
    assert_eq!(member.data(WHERE).await["organization"]["viewerRole"], "VIEWER");
    app.database
        .execute(&format!("DELETE FROM auth.organization_members WHERE {where_member}"))
        .await;
    member.query(WHERE).await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn the_first_request_of_an_identity_creates_its_user() {
    let account_linking = AccountLinking::VerifiedEmail;
    let app = App::with(AppSettings { account_linking, ..AppSettings::default() }).await;
    let users = || app.database.value::<i64>("SELECT count(*) FROM auth.users");
    let before = users().await;
    let unverified = json!({ "sub": "new-1", "email": "acme-owner@example.com", "name": "New" });
    let client = app.client(None, Some(app::token_with(&unverified)));
    let data = client.data("{ viewer { id name email memberships { slug } } }").await;
    assert_eq!(data["viewer"]["email"], json!(null), "an unverified address belongs to no user");
    assert_eq!(data["viewer"]["name"], "New");
    assert_eq!(data["viewer"]["memberships"], json!([]));
    assert_eq!(client.data("{ viewer { id } }").await["viewer"]["id"], data["viewer"]["id"]);
    assert_eq!(users().await, before + 1);

    let verified = json!({ "sub": "new-2", "iss": "https://id.example", "email": " Acme-Owner@Example.com", "email_verified": true });
    let data =
        app.client(None, Some(app::token_with(&verified))).data("{ viewer { name email } }").await;
    assert_eq!(data["viewer"], json!({ "name": "Olivia", "email": "acme-owner@example.com" }));
    assert_eq!(users().await, before + 1, "a verified address joins the user who has it");

    // The same subject at another issuer is another user.
    let other = json!({ "sub": "acme-owner", "iss": "https://other.example" });
    let reply = app.client(Some("acme"), Some(app::token_with(&other))).query(WHERE).await;
    reply.assert_refused(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_first_requests_of_an_identity_create_one_user() {
    let app = App::start().await;
    let before = app.database.value::<i64>("SELECT count(*) FROM auth.users").await;
    let ask = || {
        let client = app.outsider("all-at-once");
        async move { client.data("{ viewer { id } }").await["viewer"]["id"].clone() }
    };
    let ids = futures_util::future::join_all((0..20).map(|_| ask())).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let after = app.database.value::<i64>("SELECT count(*) FROM auth.users").await;
    assert_eq!(after, before + 1);
}

#[tokio::test]
async fn a_bad_token_is_rejected_with_the_reason() {
    let app = App::start().await;
    let now = Utc::now().timestamp();
    let forged =
        auth::sign(&"another secret".repeat(4), &json!({ "sub": "acme-owner", "exp": now + 60 }))
            .unwrap();
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhY21lLW93bmVyIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    for (token, reason) in [
        ("nonsense".to_owned(), "malformed"),
        (forged, "signature"),
        (none.to_owned(), "signature algorithm is not supported"),
        ("eyJhbGciOiJFUzUxMiJ9.e30.AAAA".to_owned(), "signature algorithm is not supported"),
        // As Auth0 issues them without an audience.
        ("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA".to_owned(), "encrypted"),
        (app::token_with(&json!({ "sub": "acme-owner", "exp": now - 31 })), "expired"),
        (app::token_with(&json!({ "sub": "acme-owner", "exp": "soon" })), "exp"),
        (app::token_with(&json!({ "sub": "acme-owner", "exp": null })), "exp"),
        (app::token_with(&json!({ "sub": "acme-owner", "nbf": now + 60 })), "not valid yet"),
        (app::token_with(&json!({ "sub": "acme-owner", "iat": now + 60 })), "iat"),
        (app::token_with(&json!({ "sub": "acme-owner", "iat": "now" })), "iat"),
        (app::token_with(&json!({})), "sub"),
        (app::token_with(&json!({ "sub": 7 })), "sub"),
        (app::token_with(&json!({ "sub": "a\0b" })), "sub"),
        (app::token_with(&json!({ "sub": "x".repeat(10_000) })), "sub"),
        (app::token_with(&json!({ "sub": "a", "iss": ["b"] })), "iss"),
    ] {
        let reply = app.client(Some("acme"), Some(token)).query(WHERE).await;
        reply.assert_refused(401, "UNAUTHENTICATED");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        let message = reply.body["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message} should name {reason}");
    }
    app.client(Some("acme"), None).query(WHERE).await.assert_refused(401, "UNAUTHENTICATED");
    let within_leeway = json!({ "sub": "acme-owner", "exp": now - 5, "nbf": now + 5 });
    app.client(Some("acme"), Some(app::token_with(&within_leeway))).data(WHERE).await;
}

#[tokio::test]
async fn issuer_audience_and_claims_follow_the_settings() {
    let mut settings = AppSettings::default();
    settings.claims.issuer = Some("https://id.example".to_owned());
    settings.claims.audiences = vec!["tenantry".to_owned()];
    settings.claims.organization = "tenant.slug".to_owned();
    settings.claims.email = "https://claims.example/mail".to_owned();
    settings.claims.email_verified = EmailVerified::Trusted;
    settings.account_linking = AccountLinking::VerifiedEmail;
    let app = App::with(settings).await;
    let good = json!({
        "sub": "someone", "iss": "https://id.example", "aud": ["other", "tenantry"],
        "https://claims.example/mail": "acme-admin@example.com", "tenant": { "slug": "acme" },
    });
    let data = app.client(None, Some(app::token_with(&good))).data(WHERE).await;
    assert_eq!(data["organization"], json!({ "slug": "acme", "viewerRole": "ADMIN" }));
    for (claim, value) in [
        ("iss", json!("https://evil.example")),
        ("iss", json!(null)),
        ("aud", json!("other")),
        ("aud", json!(null)),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        let reply = app.client(None, Some(app::token_with(&claims))).query(WHERE).await;
        reply.assert_refused(401, "UNAUTHENTICATED");
    }
}

#[tokio::test]
async fn a_slug_names_its_organization_in_any_case() {
    let app = App::start().await;
    for (path, claim) in [
        (Some("GLOBEX"), None),
        (Some("Globex"), Some("gLOBEX")),
        (None, Some("GLOBEX")),
        (Some("globex"), Some("00000000-0000-4000-8000-00000000000B")),
    ] {
        let token = app::token_with(&json!({ "sub": "globex-owner", "org": claim }));
        let reply = app.client(path, Some(token)).query("{ organization { slug } }").await;
        assert_eq!(reply.body, json!({ "data": { "organization": { "slug": "globex" } } }));
    }
    let mismatch = app::token_with(&json!({ "sub": "globex-owner", "org": "ACME" }));
    app.client(Some("globex"), Some(mismatch))
        .query(WHERE)
        .await
        .assert_refused(403, "ORGANIZATION_MISMATCH");
    // Letters outside ASCII are not letters of slugs: the Kelvin sign is no k.
    app.client(Some("\u{212a}"), Some(app::token("globex-owner")))
        .query(WHERE)
        .await
        .assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn time_comes_from_the_clock() {
    let start: DateTime<Utc> = "2030-01-01T00:00:00Z".parse().unwrap();
    let clock = Clock::from_fn(move || start);
    let app = App::with(AppSettings { clock, ..AppSettings::default() }).await;
    for (offset, valid) in [(TimeDelta::seconds(1), true), (TimeDelta::seconds(-31), false)] {
        let claims = json!({ "sub": "acme-owner", "exp": (start + offset).timestamp() });
        let reply = app.client(Some("acme"), Some(app::token_with(&claims))).query(WHERE).await;
        assert_eq!(reply.status == 200, valid, "{reply:?}");
    }
}

#[tokio::test]
async fn an_address_belongs_to_the_user_whose_token_has_it_now() {
    let app = App::start().await;
    let user = |subject: &str, email: Value, verified: bool| {
        let claims = json!({ "sub": subject, "email": email, "email_verified": verified });
        app.client(None, Some(app::token_with(&claims)))
    };
    let of = "{ viewer { id email } }";
    let before = user("alice", json!("a@corp.example"), true).data(of).await["viewer"].clone();
    let after = user("alice", json!("alice@new.example"), true).data(of).await["viewer"].clone();
    assert_eq!(after, json!({ "id": before["id"], "email": "alice@new.example" }));
    // A token without a verified address changes nothing.
    for (email, verified) in [(json!(null), true), (json!("other@corp.example"), false)] {
        assert_eq!(user("alice", email, verified).data(of).await["viewer"], after);
    }
    // The next holder of the address that she gave up is another user.
    let next = user("alan", json!("a@corp.example"), true).data(of).await["viewer"].clone();
    assert_ne!(next["id"], before["id"]);
    assert_eq!(next["email"], "a@corp.example");
    // First without an address, then with one. Requesting another user's address any number of
    // times does not take it over.
    let late = user("late", json!("late@corp.example"), false).data(of).await["viewer"].clone();
    assert_eq!(late["email"], json!(null));
    let late_now = user("late", json!("late@corp.example"), true).data(of).await["viewer"].clone();
    assert_eq!((&late_now["id"], &late_now["email"]), (&late["id"], &json!("late@corp.example")));
    for _ in 0..2 {
        let taken = user("late", json!("a@corp.example"), true).data(of).await["viewer"].clone();
        assert_eq!((&taken["id"], &taken["email"]), (&late["id"], &json!("a@corp.example")));
    }
    let holders = "SELECT count(*) FROM auth.users WHERE email = 'a@corp.example'";
    assert_eq!(app.database.value::<i64>(holders).await, 1);
    assert_eq!(user("alan", json!("a@corp.example"), true).data(of).await["viewer"], next);
}
