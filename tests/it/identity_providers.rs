//! Tokens of identity providers. With the settings of each page in `docs/identity-providers`, the
//! page's token identifies the caller that the page promises.

use std::{fs, path::Path};

use clap::Parser;
use serde_json::{Value, json};
use tenantry::{
    auth::{Caller, Verifier, sign},
    clock::Clock,
    config::JwtConfig,
};

use crate::support::{
    App, AppSettings,
    app::{SECRET, token_with},
};

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    jwt: JwtConfig,
}

/// Returns the caller of a token with these claims and settings, or the reason for refusing it.
async fn read(settings: &[&str], claims: &Value) -> Result<Caller, String> {
    let secret = format!("--jwt-secret={SECRET}");
    let flags = ["x", &secret].into_iter().chain(settings.iter().copied());
    let Settings { jwt } = Settings::parse_from(flags);
    verify(&jwt.verifier(Clock::system()).unwrap(), SECRET, claims).await
}

async fn verify(verifier: &Verifier, secret: &str, claims: &Value) -> Result<Caller, String> {
    let mut all = json!({ "sub": "ada", "exp": 4_000_000_000_i64 });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let caller = verifier.verify(&sign(secret, &all).unwrap()).await;
    caller.map(|caller| caller.as_ref().clone()).map_err(|error| format!("{error:?}"))
}

/// Returns the error of settings that are refused.
fn refused(settings: &[&str]) -> String {
    let Settings { jwt } = Settings::parse_from(["x"].iter().chain(settings));
    jwt.verifier(Clock::system()).err().map(|error| error.0).unwrap_or_default()
}

/// Returns the settings that a page exports, with a shared secret instead of the key set, and the
/// payload of its token.
fn page(name: &str) -> (JwtConfig, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/identity-providers");
    let text = fs::read_to_string(folder.join(name).with_extension("md")).unwrap();
    let exports = text.lines().filter_map(|line| {
        let (variable, rest) = line.strip_prefix("export ")?.split_once('=')?;
        let flag = variable.to_lowercase().replace('_', "-");
        Some((format!("--{flag}"), rest.split_whitespace().next()?.to_owned()))
    });
    let (keys, exports): (Vec<_>, Vec<_>) = exports.partition(|(flag, _)| flag == "--jwt-jwks-url");
    assert!(keys.iter().all(|(_, url)| url.starts_with("https://")), "{name}");
    let flags = exports.into_iter().map(|(flag, value)| format!("{flag}={value}"));
    let Settings { jwt } = Settings::parse_from(["x".to_owned()].into_iter().chain(flags));
    let mut blocks = text.split("```json\n").skip(1);
    let payload = blocks.find_map(|block| {
        let payload = serde_json::from_str::<Value>(block.split("```").next()?).ok()?;
        payload.get("iss").is_some().then_some(payload)
    });
    let jwt = JwtConfig { jwt_secret: Some(SECRET.to_owned()), ..jwt };
    (jwt, payload.expect("the page shows no token"))
}

async fn caller(name: &str) -> Caller {
    let (jwt, payload) = page(name);
    assert_eq!(jwt.warnings().unwrap(), Vec::<String>::new(), "{name}");
    let verifier = jwt.verifier(Clock::system()).unwrap();
    let caller = verifier.verify(&sign(SECRET, &payload).unwrap()).await;
    caller.unwrap_or_else(|error| panic!("{name}: {error:?}")).as_ref().clone()
}

#[tokio::test]
async fn the_token_of_each_page_works_with_its_settings() {
    for (name, subject, organization) in [
        ("auth0", "auth0|6507f1d2", Some("acme")),
        ("clerk", "user_2abc", Some("acme")),
        ("keycloak", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", Some("acme")),
        ("supabase", "5b0e4c5e-7c1a-4c52-9c1e-8d5a1b2c3d4e", Some("acme")),
        ("entra-id", "690222be-ff1a-4d56-abd1-7e4f7d38e474", None),
        ("b2c", "884408e1-2918-4c30-b12d-3aa027d7563b", None),
        ("cognito", "6f1c2b3a-1111-2222-3333-444455556666", Some("acme")),
        ("google", "110169484474386276334", None),
        ("okta", "00uid4BxXw6I6TV4m0g3", None),
    ] {
        let caller = caller(name).await;
        assert_eq!(caller.subject, subject, "{name}");
        assert_eq!(caller.email.as_deref(), Some("ada@example.com"), "{name}");
        assert_eq!(caller.organization.as_deref(), organization, "{name}");
        assert_eq!(caller.name.as_deref(), Some("Ada Lovelace"), "{name}");
    }
}

#[tokio::test]
async fn an_organization_in_a_list_or_a_map_locks_no_member_out() {
    let mut settings = AppSettings::default();
    "organization".clone_into(&mut settings.claims.organization);
    let app = App::with(settings).await;
    let ask = async |path: Option<&str>, claim: &Value| {
        let token = token_with(&json!({ "sub": "globex-owner", "organization": claim }));
        let reply = app.client(path, Some(token)).query("{ organization { slug } }").await;
        let slug = reply.body["data"]["organization"]["slug"].as_str().map(ToOwned::to_owned);
        (reply.status.as_u16(), slug)
    };
    let globex = (200, Some("globex".to_owned()));
    for one in [
        json!(["globex"]),
        json!({ "globex": { "id": "x" } }),
        json!("globex"),
        json!(["GLOBEX"]),
        json!(" globex\n"),
    ] {
        for path in [None, Some("globex")] {
            assert_eq!(ask(path, &one).await, globex, "{one}");
        }
    }
    for none in [
        json!([]),
        json!(["globex", "acme"]),
        json!({}),
        json!({ "a": {}, "b": {} }),
        json!({ "slug": "acme" }),
        json!(7),
        json!([7]),
        json!(null),
        json!([["globex"]]),
    ] {
        assert_eq!(ask(Some("globex"), &none).await, globex, "{none}");
        assert_eq!(ask(None, &none).await, (200, None), "{none}");
    }
    assert_eq!(ask(Some("globex"), &json!(["acme"])).await.0, 403, "a list of one is a text");
}

#[tokio::test]
async fn an_address_and_its_verification_are_read_at_any_claim() {
    let verified = "--jwt-email-verified=trusted";
    let issuer = "--jwt-issuer=i";
    for (settings, claims) in [
        (
            vec!["--jwt-email-claim=emails", verified, issuer],
            json!({ "iss": "i", "emails": ["b2c@x.test", "other@x.test"] }),
        ),
        (
            vec!["--jwt-email-claim=emails.0", verified, issuer],
            json!({ "iss": "i", "emails": ["b2c@x.test"] }),
        ),
        (
            vec!["--jwt-email-verified=app_metadata.email_verified"],
            json!({ "email": "b2c@x.test", "app_metadata": { "email_verified": true } }),
        ),
        (
            vec!["--jwt-email-verified=verified.0"],
            json!({ "email": "b2c@x.test", "verified": ["TRUE"] }),
        ),
        (
            vec!["--jwt-email-claim=https://x.test/claims.mail"],
            json!({ "https://x.test/claims": { "mail": "b2c@x.test" }, "email_verified": "True" }),
        ),
    ] {
        let caller = read(&settings, &claims).await.unwrap();
        assert_eq!(caller.email.as_deref(), Some("b2c@x.test"), "{settings:?}");
    }
    for (settings, claims) in [
        // Users of many providers can write these.
        (vec![], json!({ "email": "b2c@x.test", "user_metadata": { "email_verified": true } })),
        (vec!["--jwt-email-claim=emails"], json!({ "emails": ["b2c@x.test"] })),
        (vec!["--jwt-email-claim=emails"], json!({ "emails": [], "email_verified": true })),
        (
            vec!["--jwt-email-claim=emails"],
            json!({ "emails": [["b2c@x.test"]], "email_verified": true }),
        ),
        (vec![], json!({ "email": "b2c@x.test", "email_verified": null })),
    ] {
        let caller = read(&settings, &claims).await.unwrap();
        assert_eq!(caller.email, None, "{settings:?} {claims}");
    }
    let text = "--jwt-email-verified=user_metadata.email_verified";
    let Settings { jwt } = Settings::parse_from(["x", text]);
    assert!(jwt.warnings().unwrap().iter().any(|warning| warning.contains("users can change")));
}

#[tokio::test]
async fn true_counts_in_every_spelling_and_null_as_absent() {
    for (verified, expected) in [
        (json!(true), true),
        (json!("true"), true),
        (json!("True"), true),
        (json!("TRUE "), true),
        (json!(false), false),
        (json!("False"), false),
        (json!("yes"), false),
        // Entra ID's `xms_edov`.
        (json!(1), true),
        (json!("1"), true),
        (json!(0), false),
        (json!("10"), false),
        (Value::Null, false),
    ] {
        let claims = json!({ "email": "e@x.test", "email_verified": verified });
        let caller = read(&[], &claims).await.unwrap();
        assert_eq!(caller.email.is_some(), expected, "{verified}");
        assert_eq!(caller.unverified_email.is_some(), !expected, "{verified}");
    }
    let nulls = json!({ "iss": null, "iat": null, "nbf": null, "email": null, "name": null, "org": null, "picture": null, "aud": null });
    let caller = read(&[], &nulls).await.unwrap();
    assert_eq!(caller, read(&[], &json!({})).await.unwrap());
    for bad in [
        json!({ "nbf": "1" }),
        json!({ "iat": "1" }),
        json!({ "exp": null }),
        json!({ "sub": null }),
    ] {
        assert!(read(&[], &bad).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn tokens_are_bound_to_one_of_several_audiences_at_any_claim() {
    let audiences = "--jwt-audience=https://a.test, https://b.test";
    for (aud, accepted) in [
        (json!("https://a.test"), true),
        (json!("https://b.test"), true),
        (json!(["https://b.test", "https://c.test"]), true),
        (json!("https://c.test"), false),
        (json!("https://a.test, https://b.test"), false),
        (json!([]), false),
        (json!({ "https://a.test": 1 }), false),
        (Value::Null, false),
    ] {
        assert_eq!(read(&[audiences], &json!({ "aud": aud })).await.is_ok(), accepted, "{aud}");
    }
    // The access tokens of Cognito name the app client, and those of Clerk the origin of the app.
    let client = ["--jwt-audience=abc", "--jwt-audience-claim=client_id"];
    assert!(read(&client, &json!({ "client_id": "abc", "token_use": "access" })).await.is_ok());
    for other in [json!({ "client_id": "other" }), json!({ "aud": "abc" }), json!({})] {
        assert!(read(&client, &other).await.is_err(), "{other}");
    }
    let nested = ["--jwt-audience=abc", "--jwt-audience-claim=client.ids"];
    assert!(read(&nested, &json!({ "client": { "ids": ["x", "abc"] } })).await.is_ok());
    for bad in ["--jwt-audience=a,,b", "--jwt-audience=a,any", "--jwt-audience=,"] {
        let error = refused(&[&format!("--jwt-secret={SECRET}"), bad]);
        assert!(error.contains("JWT_AUDIENCE"), "{bad}: {error}");
    }
}

#[tokio::test]
async fn an_account_is_identified_by_the_configured_claim() {
    let subject = |caller: Result<Caller, String>| caller.unwrap().subject;
    let claims = |sub: &str| json!({ "sub": sub, "oid": "1", "user": { "id": "u" } });
    for sub in ["AAA", "BBB"] {
        assert_eq!(subject(read(&["--jwt-subject-claim=oid"], &claims(sub)).await), "1");
        assert_eq!(subject(read(&["--jwt-subject-claim=user.id"], &claims(sub)).await), "u");
        assert_eq!(subject(read(&[], &claims(sub)).await), sub);
    }
    for bad in [json!({}), json!({ "oid": 1 }), json!({ "oid": ["1"] }), json!({ "oid": null })] {
        let refused = read(&["--jwt-subject-claim=oid"], &bad).await.unwrap_err();
        assert!(refused.contains("subject claim"), "{bad}: {refused}");
    }
}

#[tokio::test]
async fn each_of_several_issuers_has_its_own_secret_audience_and_claims() {
    let other_secret = "another secret for tests of thirty-two bytes";
    let list = json!([
        { "issuer": "https://one.test", "secret": SECRET, "audience": ["a", "b"], "org_claim": "o.slug" },
        { "issuer": "https://two.test", "secret": other_secret, "audience": "any", "subject_claim": "uid",
          "email_claim": "emails", "email_verified": "trusted" },
    ]);
    let list = format!("--jwt-issuers={list}");
    let Settings { jwt } = Settings::parse_from(["x", &list, "--jwt-name-claim=nickname"]);
    assert_eq!(jwt.warnings().unwrap().len(), 1, "one audience is any");
    let verifier = jwt.verifier(Clock::system()).unwrap();
    let one = json!({ "iss": "https://one.test", "aud": "b", "o": { "slug": "acme" }, "nickname": "Ada", "emails": ["x@x.test"] });
    let caller = verify(&verifier, SECRET, &one).await.unwrap();
    assert_eq!((caller.subject.as_str(), caller.organization.as_deref()), ("ada", Some("acme")));
    assert_eq!((caller.name.as_deref(), caller.email), (Some("Ada"), None));
    let two =
        json!({ "iss": "https://two.test", "uid": "7", "emails": ["x@x.test"], "org": "acme" });
    let caller = verify(&verifier, other_secret, &two).await.unwrap();
    assert_eq!((caller.subject.as_str(), caller.email.as_deref()), ("7", Some("x@x.test")));
    // Neither issuer can sign for the other one, or for a third.
    for (secret, claims) in [
        (other_secret, one.clone()),
        (SECRET, two.clone()),
        (SECRET, json!({ "iss": "https://three.test", "aud": "a" })),
        (SECRET, json!({ "aud": "a" })),
        (SECRET, json!({ "iss": "https://one.test", "aud": "c" })),
    ] {
        assert!(verify(&verifier, secret, &claims).await.is_err(), "{claims}");
    }
}

#[test]
fn a_list_of_issuers_that_is_not_clear_is_refused() {
    let secret = "hunter2 hunter2 hunter2 hunter2 hunter2";
    let good = json!({ "issuer": "i", "secret": secret });
    let key_set = json!({ "issuer": "i", "jwks_url": "https://i.test/keys" });
    let with = |object: &Value, key: &str, value: Value| {
        let mut object = object.clone();
        object[key] = value;
        json!([object]).to_string()
    };
    for (list, expected) in [
        ("{".to_owned(), "not a JSON list of objects"),
        (format!("[\"{secret}\"]"), "not a JSON list of objects"),
        ("[]".to_owned(), "lists no issuer"),
        (json!([{ "secret": secret }]).to_string(), "`issuer` is not set"),
        (with(&good, "issuer", json!("any")), "`issuer` is not set"),
        (json!([{ "issuer": "i" }]).to_string(), "either `secret` or `jwks_url`"),
        (with(&good, "jwks_url", json!("https://i.test/keys")), "either `secret` or `jwks_url`"),
        (with(&good, "secret", json!("hunter2")), "JWT_SECRET has 7 bytes"),
        (with(&good, "secret", json!(7)), "`secret` must be a string"),
        (with(&good, "audiance", json!("a")), "`audiance` is not one of its keys"),
        (with(&good, "algorithms", json!(["none"])), "`algorithms` must be"),
        (json!([good, good]).to_string(), "this issuer is listed twice"),
        (json!([key_set]).to_string(), "JWT_AUDIENCE is not set"),
        (with(&key_set, "jwks_url", json!("http://i.test/?k=hunter2")), "must begin with https://"),
    ] {
        let error = refused(&[&format!("--jwt-issuers={list}")]);
        assert!(error.starts_with("JWT_ISSUERS"), "{list}: {error}");
        assert!(error.contains(expected), "{list}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let both = [format!("--jwt-secret={secret}"), format!("--jwt-issuers={}", json!([good]))];
    let error = refused(&both.each_ref().map(String::as_str));
    assert!(error.contains("JWT_ISSUERS replaces JWT_SECRET"), "{error}");
}

#[test]
fn keys_over_http_are_accepted_only_when_the_risk_is_named() {
    let url = "--jwt-jwks-url=http://keycloak.svc.cluster.local:8080/certs";
    let common = ["--jwt-issuer=i", "--jwt-audience=a"];
    let with = |more: &[&'static str]| [&common, more].concat();
    let error = refused(&with(&[url]));
    assert!(
        error.contains("JWT_JWKS_ALLOW_INSECURE_HTTP=true") && error.contains("file:///"),
        "{error}"
    );
    let allowed = with(&[url, "--jwt-jwks-allow-insecure-http=true"]);
    assert_eq!(refused(&allowed), "");
    let Settings { jwt } = Settings::parse_from(["x"].iter().chain(&allowed));
    assert!(jwt.warnings().unwrap().iter().any(|warning| warning.contains("not encrypted")));
    assert!(refused(&with(&["--jwt-jwks-url=file:///no/such/file"])).contains("names no file"));
    assert!(refused(&with(&["--jwt-jwks-url=ftp://x.test/"])).contains("https://"));
    assert_eq!(refused(&with(&["--jwt-jwks-url=http://127.0.0.1:8080/certs"])), "");
}

#[tokio::test]
async fn an_issuer_that_differs_slightly_is_refused_with_that_reason() {
    for (configured, named) in [
        ("https://id.example", "https://id.example/"),
        ("https://id.example/", "https://id.example"),
        ("https://accounts.google.com", "accounts.google.com"),
        (
            "https://a.b2clogin.com/tfp/d/B2C_1_sign_in/v2.0/",
            "https://a.b2clogin.com/tfp/d/b2c_1_sign_in/v2.0/",
        ),
    ] {
        let settings = format!("--jwt-issuer={configured}");
        let refused = read(&[&settings], &json!({ "iss": named })).await.unwrap_err();
        assert!(refused.contains("differ in case, in https:// or in a slash"), "{refused}");
        assert!(read(&[&settings], &json!({ "iss": configured })).await.is_ok());
        for other in [
            json!("https://id.example//x"),
            json!("https://other.example"),
            json!("https://sts.windows.net/d/"),
            json!(null),
            json!([named]),
        ] {
            let refused = read(&[&settings], &json!({ "iss": other })).await.unwrap_err();
            assert!(refused.contains("another issuer"), "{refused}");
        }
    }
    // As the discovery document of the endpoint `common` has it.
    let shared = "--jwt-issuer=https://login.microsoftonline.com/{tenantid}/v2.0";
    let error = refused(&[&format!("--jwt-secret={SECRET}"), shared]);
    assert!(error.contains("JWT_ISSUER has a placeholder"), "{error}");
}

#[tokio::test]
async fn both_issuers_of_google_and_each_policy_of_b2c_can_be_listed() {
    let google = ["https://accounts.google.com", "accounts.google.com"];
    let policy = |name: &str| format!("https://t.b2clogin.com/tfp/d/{name}/v2.0/");
    let policies = ["b2c_1_sign_in", "b2c_1_edit"].map(policy);
    let issuers = google.into_iter().chain(policies.iter().map(String::as_str));
    let object = |issuer| json!({ "issuer": issuer, "secret": SECRET, "audience": "c" });
    let list = format!("--jwt-issuers={}", json!(issuers.clone().map(object).collect::<Vec<_>>()));
    let Settings { jwt } = Settings::parse_from(["x", &list]);
    let verifier = jwt.verifier(Clock::system()).unwrap();
    for issuer in issuers {
        let claims = json!({ "iss": issuer, "aud": ["c", "d"] });
        assert_eq!(verify(&verifier, SECRET, &claims).await.unwrap().issuer, issuer);
    }
}

#[tokio::test]
async fn claims_of_further_settings_of_the_pages_are_read() {
    // Clerk's session token without a template.
    let clerk =
        ["--jwt-audience-claim=azp", "--jwt-audience=https://app.test", "--jwt-org-claim=o.slg"];
    let claims = json!({ "azp": "https://app.test", "sid": "s", "v": 2,
                         "o": { "id": "org_1", "slg": "acme", "rol": "admin" } });
    assert_eq!(read(&clerk, &claims).await.unwrap().organization.as_deref(), Some("acme"));
    assert!(read(&clerk, &json!({ "azp": "https://other.test" })).await.is_err());
    // Entra ID with the optional claim for the domain of the address.
    for (domain, is_verified) in
        [(json!("1"), true), (json!(true), true), (json!("0"), false), (Value::Null, false)]
    {
        let claims = json!({ "email": "ada@x.test", "xms_edov": domain, "ver": "2.0" });
        let caller = read(&["--jwt-email-verified=xms_edov"], &claims).await.unwrap();
        assert_eq!(caller.email.is_some(), is_verified, "{domain}");
    }
    // Auth0 with a namespace, as its Actions required it for a long time.
    let auth0 = [
        "--jwt-email-claim=https://x.test/email",
        "--jwt-email-verified=https://x.test/email_verified",
        "--jwt-org-claim=https://x.test/app_metadata.org",
    ];
    let claims = json!({ "https://x.test/email": "ada@x.test", "https://x.test/email_verified": true,
                         "https://x.test/app_metadata": { "org": "acme" } });
    let caller = read(&auth0, &claims).await.unwrap();
    assert_eq!(
        (caller.email.as_deref(), caller.organization.as_deref()),
        (Some("ada@x.test"), Some("acme"))
    );
    let users_write = "--jwt-email-verified=https://x.test/user_metadata.email_verified";
    let Settings { jwt } = Settings::parse_from(["x", users_write]);
    assert!(jwt.warnings().unwrap().iter().any(|warning| warning.contains("users can change")));
}

#[tokio::test]
async fn unusual_claims_of_a_valid_token_do_not_lock_users_out() {
    for (claims, email, name) in [
        (
            json!({ "email": " Ada@Example.COM ", "email_verified": [true] }),
            Some("ada@example.com"),
            None,
        ),
        (
            json!({ "email": ["ada@example.com", 7], "email_verified": "true" }),
            Some("ada@example.com"),
            None,
        ),
        (json!({ "email": { "value": "ada@example.com" }, "email_verified": true }), None, None),
        (
            json!({ "email": "no address", "email_verified": true, "name": "  Ada  " }),
            None,
            Some("Ada"),
        ),
        (
            json!({ "name": ["Ada", "Lovelace"], "picture": ["https://x.test/a"] }),
            None,
            Some("Ada"),
        ),
        (
            json!({ "name": { "first": "Ada" }, "picture": "http://x.test/a", "org": { "a": 1 } }),
            None,
            None,
        ),
        (json!({ "name": "", "iat": 1.5e9, "nbf": 1_500_000_000.25, "exp": 4.1e9 }), None, None),
        (
            json!({ "aud": 7, "azp": null, "scope": "a b", "realm_access": { "roles": [] } }),
            None,
            None,
        ),
    ] {
        let caller = read(&[], &claims).await.unwrap_or_else(|error| panic!("{claims}: {error}"));
        assert_eq!((caller.email.as_deref(), caller.name.as_deref()), (email, name), "{claims}");
        assert_eq!((caller.subject.as_str(), caller.organization), ("ada", None), "{claims}");
    }
}
