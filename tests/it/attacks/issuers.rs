//! Tokens of another issuer or for another audience, signed with the same keys.

use serde_json::json;

use crate::support::{
    App, AppSettings,
    app::token_with,
    database::Database,
    process::{run, tenantry},
    server_process::ServerProcess,
};

const SECRET_KEY: (&str, &str) = ("SECRET_KEY", "0123456789abcdef0123456789abcdef");
const KEY_SET: (&str, &str) = ("JWT_JWKS_URL", "https://id.example/jwks?api_key=hunter2");
const ISSUER: (&str, &str) = ("JWT_ISSUER", "https://id.example/");
const AUDIENCE: (&str, &str) = ("JWT_AUDIENCE", "api");
const SECRET: (&str, &str) = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");
const TRUSTED: (&str, &str) = ("JWT_EMAIL_VERIFIED", "trusted");

#[test]
fn a_key_set_requires_an_issuer_and_an_audience() {
    for (settings, expected) in [
        (vec![KEY_SET], "JWT_ISSUER is not set"),
        (vec![KEY_SET, AUDIENCE], "JWT_ISSUER is not set"),
        (vec![KEY_SET, ISSUER], "JWT_AUDIENCE is not set"),
        (vec![KEY_SET, AUDIENCE, ("JWT_ISSUER", " ")], "JWT_ISSUER is not set"),
        (
            vec![KEY_SET, AUDIENCE, TRUSTED, ("JWT_ISSUER", "any")],
            "JWT_EMAIL_VERIFIED=trusted requires",
        ),
        (vec![SECRET, TRUSTED], "JWT_EMAIL_VERIFIED=trusted requires JWT_ISSUER"),
        (vec![("JWT_JWKS_URL", "hunter2")], "JWT_JWKS_URL is not an address"),
        (
            vec![("JWT_JWKS_URL", "http://id.example/?k=hunter2"), ISSUER, AUDIENCE],
            "must begin with https://",
        ),
    ] {
        let mut command = tenantry();
        command.arg("serve").env("DATABASE_URL", "postgres://a@127.0.0.1:1/b");
        let output = run(command.envs([SECRET_KEY]).envs(settings.iter().copied()));
        assert_eq!(output.code, Some(1), "{settings:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(output.stderr.contains(expected), "{settings:?}: {}", output.stderr);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    }
    let help = run(tenantry().args(["serve", "--help"]).envs([KEY_SET])).stdout;
    assert!(!help.contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepting_any_issuer_logs_a_warning_and_no_key_set_address() {
    let database = Database::create().await;
    // Nothing listens there: each token triggers a fetch of the keys, and the failure is logged.
    let settings = [
        ("JWT_SECRET", ""),
        ("JWT_JWKS_URL", "http://user:hunter2@127.0.0.1:1/jwks?api_key=hunter2#hunter2"),
        ("JWT_ISSUER", "any"),
        ("JWT_AUDIENCE", "any"),
        ("RUST_LOG", "trace"),
    ];
    let url = database.url("tenantry_app");
    let served = tokio::task::spawn_blocking(move || ServerProcess::start(&url, &settings));
    let served = served.await.unwrap();
    let log = served.log();
    for warning in ["JWT_ISSUER names no issuer", "JWT_AUDIENCE names no audience"] {
        assert!(log.contains(warning), "{log}");
    }
    let header = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ";
    let reply = crate::support::Client::new(
        format!("{}/graphql", served.base),
        Some(format!("{header}.e30.AAAA")),
    )
    .query("{ viewer { id } }")
    .await;
    assert_eq!(reply.status, 503, "{reply:?}");
    let log = served.log();
    assert!(log.contains("the issuer's keys cannot be fetched"), "{log}");
    assert!(log.contains("http://127.0.0.1:1/jwks"), "{log}");
    assert!(!log.contains("hunter2") && !reply.text.contains("hunter2"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_cannot_sign_for_another_one_of_the_list() {
    let database = Database::create().await;
    let [first, second] = ["first", "second"].map(|name| format!("{name} {}", SECRET.1));
    let list = json!([
        { "issuer": "https://first.example", "secret": first, "audience": "api" },
        { "issuer": "https://second.example", "secret": second, "audience": "api" },
    ]);
    let list = list.to_string();
    let url = database.url("tenantry_app");
    let served = tokio::task::spawn_blocking(move || {
        ServerProcess::start(&url, &[("JWT_SECRET", ""), ("JWT_ISSUERS", &list)])
    });
    let served = served.await.unwrap();
    let ask = async |secret: &str, issuer: &str| {
        let claims = json!({ "sub": "ada", "iss": issuer, "aud": "api", "exp": 4_000_000_000_i64 });
        let token = tenantry::auth::sign(secret, &claims).unwrap();
        crate::support::Client::new(format!("{}/graphql", served.base), Some(token))
            .query("{ viewer { id } }")
            .await
    };
    let one = ask(&first, "https://first.example").await.data();
    let two = ask(&second, "https://second.example").await.data();
    assert_ne!(one, two, "the same subject of two issuers is two users");
    for (secret, issuer) in [
        (&first, "https://second.example"),
        (&second, "https://first.example"),
        (&first, "https://third.example"),
    ] {
        ask(secret, issuer).await.assert_refused(401, "UNAUTHENTICATED");
    }
    assert!(!served.log().contains(&first), "{}", served.log());
}

#[tokio::test]
async fn a_token_of_another_issuer_or_audience_is_rejected() {
    let mut settings = AppSettings::default();
    settings.claims.issuer = Some("https://id.example/".to_owned());
    settings.claims.audiences = vec!["api".to_owned()];
    let app = App::with(settings).await;
    let ask = async |claims| {
        app.client(None, Some(token_with(&claims))).query("{ viewer { id } }").await.status.as_u16()
    };
    let good = json!({ "sub": "a", "iss": "https://id.example/", "aud": ["other", "api"] });
    assert_eq!(ask(good).await, 200);
    for bad in [
        json!({ "sub": "a", "iss": "https://id.example", "aud": "api" }),
        json!({ "sub": "a", "iss": "any", "aud": "api" }),
        json!({ "sub": "a", "aud": "api" }),
        json!({ "sub": "a", "iss": "https://id.example/" }),
        json!({ "sub": "a", "iss": "https://id.example/", "aud": "other" }),
    ] {
        assert_eq!(ask(bad).await, 401);
    }
}
