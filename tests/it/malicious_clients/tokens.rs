//! Tokens that no issuer would sign, and unsigned ones: each is rejected in the same way over every
//! transport.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use chrono::Utc;
use serde_json::{Value, json};

use super::transports::{self, Transport, ask};
use crate::support::{
    App,
    app::{SECRET, token_with},
};

/// Builds a token from these texts with any signature.
pub fn token(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(signature))
}

pub fn with_secret(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |text| hmac::sign(&key, text).as_ref().to_vec()
}

pub fn exp() -> i64 {
    Utc::now().timestamp() + 3_600
}

/// Tokens that are signed with the secret, or not at all.
#[expect(clippy::too_many_lines, reason = "a table")]
fn bad_tokens() -> Vec<(String, String)> {
    let good = format!(r#"{{"sub":"acme-owner","exp":{}}}"#, exp());
    let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
    let with_claims = |claims: &str| token(hs256, claims, with_secret(SECRET.as_bytes()));
    let mut bad = Vec::new();
    let mut add = |name: String, token: String| bad.push((name, token));
    for alg in [
        "none", "None", "NONE", "nOnE", "none ", "", "HS384", "HS512", "hs256", "RS256", "ES256",
        "EdDSA", "HS256\0", "dir",
    ] {
        for (kind, secret) in [("signed", SECRET.as_bytes()), ("unsigned", b"".as_slice())] {
            let header = json!({ "alg": alg, "typ": "JWT" }).to_string();
            let sign = |text: &[u8]| {
                if secret.is_empty() { Vec::new() } else { with_secret(secret)(text) }
            };
            add(format!("alg {alg:?}, {kind}"), token(&header, &good, sign));
        }
    }
    for header in [
        "",
        "{}",
        "null",
        "[]",
        "7",
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":{"HS256":1}}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
    ] {
        add(format!("header {header}"), token(header, &good, with_secret(SECRET.as_bytes())));
    }
    for secret in ["", "secret", &SECRET[1..], &SECRET.to_uppercase(), "\0"] {
        add(format!("secret {secret:?}"), token(hs256, &good, with_secret(secret.as_bytes())));
    }
    let now = Utc::now().timestamp();
    for claims in [
        "",
        "null",
        "[]",
        "7",
        "\"acme-owner\"",
        "{",
        r#"{"sub":"acme-owner"}"#,
        r#"{"sub":"acme-owner","exp":null}"#,
        r#"{"sub":"acme-owner","exp":-1}"#,
        r#"{"sub":"acme-owner","exp":0}"#,
        r#"{"sub":"acme-owner","exp":-1e300}"#,
        r#"{"sub":"acme-owner","exp":1e400}"#,
        r#"{"sub":"acme-owner","exp":NaN}"#,
        r#"{"sub":"acme-owner","exp":"9999999999"}"#,
        r#"{"sub":"acme-owner","exp":true}"#,
        r#"{"sub":"acme-owner","exp":[9999999999]}"#,
        r#"{"sub":"acme-owner","exp":{"a":9999999999}}"#,
        r#"{"sub":"acme-owner","exp":9999999999,"nbf":9999999998}"#,
        r#"{"sub":"acme-owner","exp":9999999999,"nbf":"0"}"#,
        r#"{"exp":9999999999}"#,
        r#"{"sub":null,"exp":9999999999}"#,
        r#"{"sub":7,"exp":9999999999}"#,
        r#"{"sub":["acme-owner"],"exp":9999999999}"#,
        r#"{"sub":{"a":"acme-owner"},"exp":9999999999}"#,
        r#"{"sub":"acme-owner\u0000","exp":9999999999}"#,
        r#"{"sub":"\ud800","exp":9999999999}"#,
        r#"{"sub":"acme-owner","iss":7,"exp":9999999999}"#,
        r#"{"sub":"acme-owner","iss":"\u0000","exp":9999999999}"#,
        &format!(r#"{{"sub":"acme-owner","exp":{}}}"#, now - 31),
        &format!(r#"{{"sub":"acme-owner","exp":{}.5}}"#, now - 60),
        &format!(r#"{{"sub":"{}","exp":9999999999}}"#, "s".repeat(1_025)),
        &format!(
            r#"{{"sub":"acme-owner","exp":9999999999,"x":{}1{}}}"#,
            "[".repeat(5_000),
            "]".repeat(5_000)
        ),
        // A parser that uses the first value takes this token for expired, or for another user's.
        r#"{"sub":"acme-owner","exp":0,"exp":9999999999}"#,
        r#"{"sub":"globex-owner","sub":"acme-owner","exp":9999999999}"#,
    ] {
        add(format!("claims {}", &claims[..claims.len().min(80)]), with_claims(claims));
    }
    let complete = with_claims(&good);
    let parts: Vec<&str> = complete.split('.').collect();
    for unusual in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        complete.replace('.', ""),
        format!("{complete}."),
        format!("{complete}.{}", parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{complete}="),
        format!("{complete} {complete}"),
        format!("{complete},{complete}"),
        format!("{complete}\u{e9}"),
        format!("\"{complete}\""),
        "x".repeat(40_000),
    ] {
        add(format!("form {:?}", unusual.chars().take(30).collect::<String>()), unusual);
    }
    bad
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_token_is_rejected_over_every_transport() {
    let app = App::start().await;
    let http = reqwest::Client::new();
    let good = token_with(&json!({ "sub": "acme-owner" }));
    let before = app.database.fingerprint().await;
    // Built by hand like the bad ones, and valid.
    let claims = format!(r#"{{"sub":"acme-owner","exp":{}}}"#, exp());
    let by_hand = token(r#"{"alg":"HS256"}"#, &claims, with_secret(SECRET.as_bytes()));
    assert_eq!(ask(&http, &app, Transport::Post, "/org/acme", &by_hand).await.status, 200);
    let mut wrong = Vec::new();
    for (name, token) in bad_tokens() {
        for transport in transports::ALL {
            let response = ask(&http, &app, transport, "/org/acme", &token).await;
            let refused = match transport {
                // A missing token has a separate code.
                Transport::Socket => [4401, 4403].contains(&response.status),
                _ => response.status == 401 && response.text.contains("UNAUTHENTICATED"),
            };
            if !refused || response.text.len() > 1_000 {
                wrong.push(format!("{name}, {transport:?}: {response:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(app.database.fingerprint().await, before);
    for transport in [Transport::Post, Transport::Get, Transport::Schema] {
        assert_eq!(ask(&http, &app, transport, "/org/acme", &good).await.status, 200);
    }
}

#[tokio::test]
async fn a_second_credential_invalidates_a_good_token() {
    let app = App::start().await;
    let owner = app.client(Some("acme"), None);
    let good = token_with(&json!({ "sub": "acme-owner" }));
    let ask = async |values: &[String]| {
        let query = json!({ "query": "{ viewer { id } }" });
        let request = values.iter().fold(owner.post().json(&query), |request, value| {
            request.header("authorization", value.as_bytes())
        });
        request.send().await.unwrap().status().as_u16()
    };
    let bearer = format!("Bearer {good}");
    assert_eq!(ask(std::slice::from_ref(&bearer)).await, 200);
    assert_eq!(ask(&[format!("bEARER  {good} ")]).await, 200);
    for values in [
        vec![bearer.clone(), bearer.clone()],
        vec![bearer.clone(), "Basic eDp5".to_owned()],
        vec![good.clone()],
        vec![format!("Basic {good}")],
        vec![format!("Token {good}")],
        vec![format!("Bearer\t{good}")],
        vec![format!("Bearer:{good}")],
        vec![format!("Bearer {bearer}")],
        vec!["Bearer".to_owned()],
        vec!["Bearer ".to_owned()],
        vec![format!("Bearer {}", "x".repeat(20_000))],
        vec!["\u{ff}".to_owned()],
    ] {
        assert_eq!(ask(&values).await, 401, "{values:?}");
    }
}

#[tokio::test]
async fn a_token_of_a_mebibyte_is_rejected_wherever_it_is_sent() {
    let app = App::start().await;
    let http = reqwest::Client::new();
    let huge = token_with(&json!({ "sub": "acme-owner", "x": "y".repeat(700_000) }));
    // The server stops reading at the limit of the headers, so a client that still writes may miss
    // the response.
    let sent = http.get(format!("{}/schema.graphql", app.base)).bearer_auth(&huge).send().await;
    assert!(sent.is_err() || sent.is_ok_and(|response| response.status() == 431));
    let subject = token_with(&json!({ "sub": "s".repeat(700_000) }));
    let response = ask(&http, &app, Transport::Socket, "/org/acme", &subject).await;
    assert_eq!(response.status, 4403, "{response:?}");
    let value: Value = app.user("acme-owner").data("{ viewer { name } }").await;
    assert_eq!(value["viewer"]["name"], "Olivia");
}
