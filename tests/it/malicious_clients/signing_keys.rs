//! Tokens against an issuer's public keys: public knowledge about a key must not be enough to sign.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa,
    signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::json;
use tenantry::auth::{Algorithm, JwksOptions};

use super::{
    tokens::{exp, token, with_secret},
    transports::{Transport, ask},
};
use crate::support::{App, AppSettings};

/// An in-process issuer with a key of each kind.
struct Issuer {
    edwards: Ed25519KeyPair,
    rsa: rsa::KeyPair,
    options: JwksOptions,
}

impl Issuer {
    async fn start() -> Self {
        let edwards = Ed25519KeyPair::generate().unwrap();
        let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let public = rsa.public_key();
        let keys = json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": BASE64.encode(edwards.public_key()) },
            { "kty": "RSA", "kid": "r", "n": BASE64.encode(public.modulus().big_endian_without_leading_zero()),
              "e": BASE64.encode(public.exponent().big_endian_without_leading_zero()) },
        ] });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap()).parse().unwrap();
        let routes = axum::Router::new()
            .route("/jwks", axum::routing::get(move || async move { axum::Json(keys) }));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let algorithms = vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
        let hour = std::time::Duration::from_hours(1);
        let options = JwksOptions { url, algorithms, cooldown: hour, max_age: hour };
        Self { edwards, rsa, options }
    }

    fn edwards(&self, header: &str, claims: &str) -> String {
        token(header, claims, |text| self.edwards.sign(text).as_ref().to_vec())
    }

    fn rsa(&self, header: &str, claims: &str) -> String {
        token(header, claims, |text| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_key_material_signs_no_token() {
    let issuer = Issuer::start().await;
    let app =
        App::with(AppSettings { issuer: Some(issuer.options.clone()), ..AppSettings::default() })
            .await;
    let http = reqwest::Client::new();
    let claims = format!(r#"{{"sub":"acme-owner","exp":{}}}"#, exp());
    let rs256 = |kid: &str| json!({ "alg": "RS256", "kid": kid }).to_string();
    for good in
        [issuer.rsa(&rs256("r"), &claims), issuer.edwards(r#"{"alg":"EdDSA","kid":"e"}"#, &claims)]
    {
        assert_eq!(ask(&http, &app, Transport::Post, "/org/acme", &good).await.status, 200);
    }
    let public = issuer.rsa.public_key();
    let modulus = public.modulus().big_endian_without_leading_zero();
    let pem = {
        let der: PublicKeyX509Der = public.as_der().unwrap();
        let text = base64::prelude::BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    };
    let mut bad = Vec::new();
    // RFC 8725, section 2.1: the public key as an HMAC secret, in all its forms.
    for secret in [
        pem.as_bytes(),
        pem.trim_end().as_bytes(),
        public.as_ref(),
        modulus,
        BASE64.encode(modulus).as_bytes(),
        issuer.edwards.public_key().as_ref(),
    ] {
        for kid in [json!("r"), json!("e"), json!(null)] {
            for alg in ["HS256", "RS256", "EdDSA"] {
                let header = json!({ "alg": alg, "kid": kid }).to_string();
                bad.push(token(&header, &claims, with_secret(secret)));
            }
        }
    }
    for kid in [
        "e",
        "",
        "../../dev/null",
        "/dev/null",
        "r\0",
        "r' OR '1'='1",
        "http://127.0.0.1:1/jwks",
        "R",
        &"k".repeat(9_000),
    ] {
        bad.push(issuer.rsa(&rs256(kid), &claims));
    }
    for header in [
        r#"{"alg":"RS256","kid":["r"]}"#,
        r#"{"alg":"RS256","kid":{"r":1}}"#,
        r#"{"alg":"RS256","kid":7}"#,
        r#"{"alg":"EdDSA","kid":"r"}"#,
        r#"{"alg":"RS512","kid":"r"}"#,
        r#"{"alg":"PS256","kid":"r"}"#,
        r#"{"alg":"none","kid":"r"}"#,
        r#"{"alg":"RS256","kid":"r","crit":["kid"]}"#,
    ] {
        bad.push(issuer.rsa(header, &claims));
    }
    // Keys that the token contains or refers to.
    let own = json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(Ed25519KeyPair::generate().unwrap().public_key()) });
    for extra in [
        json!({ "jwk": own }),
        json!({ "jku": issuer.options.url.to_string() }),
        json!({ "x5u": "http://127.0.0.1:1/" }),
    ] {
        let mut header = json!({ "alg": "EdDSA" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        bad.push(token(&header.to_string(), &claims, |text| {
            Ed25519KeyPair::generate().unwrap().sign(text).as_ref().to_vec()
        }));
    }
    for (count, token) in bad.iter().enumerate() {
        let response = ask(&http, &app, Transport::Post, "/org/acme", token).await;
        assert_eq!(response.status, 401, "{count}: {response:?}");
    }
    // A flood of unknown keys does not reject a client with a valid token.
    for n in 0..300 {
        let response = ask(
            &http,
            &app,
            Transport::Post,
            "/org/acme",
            &issuer.rsa(&rs256(&format!("k{n}")), &claims),
        )
        .await;
        assert_eq!(response.status, 401);
    }
    let good = issuer.rsa(&rs256("r"), &claims);
    assert_eq!(ask(&http, &app, Transport::Post, "/org/acme", &good).await.status, 200);
}
