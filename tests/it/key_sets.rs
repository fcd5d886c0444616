//! Key sets as identity providers publish them: odd encodings, unknown keys, keys without ids.

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    },
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD as BASE64},
};
use chrono::Utc;
use serde_json::{Value, json};
use tenantry::{
    auth::{Algorithm, Claims, JwksOptions, TrustedIssuer, Verifier},
    clock::Clock,
};

use crate::support::{Client, database::Database, server_process::ServerProcess};

enum Key {
    Edwards(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

impl Key {
    fn edwards() -> Self {
        Self::Edwards(Ed25519KeyPair::generate().unwrap())
    }

    fn p256() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn p384() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    fn rsa() -> Self {
        Self::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap())
    }

    /// Returns the public key as a provider publishes it.
    fn jwk(&self) -> Value {
        match self {
            Self::Edwards(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(key.public_key()) })
            }
            Self::Ec(key) => {
                let (x, y) =
                    key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
                json!({ "kty": "EC", "crv": if x.len() == 32 { "P-256" } else { "P-384" },
                        "x": BASE64.encode(x), "y": BASE64.encode(y) })
            }
            Self::Rsa(key) => {
                let public = key.public_key();
                json!({ "kty": "RSA", "n": BASE64.encode(public.modulus().big_endian_without_leading_zero()),
                        "e": BASE64.encode(public.exponent().big_endian_without_leading_zero()) })
            }
        }
    }

    fn jwk_with(&self, more: &Value) -> Value {
        let mut jwk = self.jwk();
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    /// Returns a token with this algorithm and key id in its header.
    fn token(&self, alg: &str, kid: Option<&str>) -> String {
        let mut header = json!({ "alg": alg });
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        let claims = json!({ "iss": "https://id.example", "aud": "api", "sub": "acme-owner", "exp": Utc::now().timestamp() + 600 });
        let signed =
            format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let text = signed.as_bytes();
        let signature = match self {
            Self::Edwards(key) => key.sign(text).as_ref().to_vec(),
            Self::Ec(key) => key.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let encoding: &'static dyn RsaEncoding = match alg {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &SystemRandom::new(), text, &mut signature).unwrap();
                signature
            }
        };
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

/// Serves a key set, and returns its URL.
async fn serve(keys: &[Value]) -> String {
    let keys = json!({ "keys": keys });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let routes = axum::Router::new()
        .route("/jwks", axum::routing::get(move || async move { axum::Json(keys) }));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

fn verifier(url: &str) -> Verifier {
    let algorithms = ALGORITHMS.map(|name| name.parse::<Algorithm>().unwrap());
    let options = JwksOptions {
        url: url.parse().unwrap(),
        algorithms: algorithms.to_vec(),
        cooldown: Duration::ZERO,
        max_age: Duration::from_hours(1),
    };
    let issuer = TrustedIssuer::with_key_set(options, Claims::default()).unwrap();
    Verifier::new(vec![issuer], Clock::system())
}

#[tokio::test]
async fn ed25519_and_eddsa_are_names_of_one_algorithm() {
    for declared in [json!({}), json!({ "alg": "EdDSA" }), json!({ "alg": "Ed25519" })] {
        let key = Key::edwards();
        let verifier = verifier(&serve(&[key.jwk_with(&declared)]).await);
        for alg in ["EdDSA", "Ed25519"] {
            assert!(verifier.verify(&key.token(alg, None)).await.is_ok(), "{declared} {alg}");
        }
        for alg in ["Ed448", "ed25519", "ES256", "none"] {
            assert!(verifier.verify(&key.token(alg, None)).await.is_err(), "{declared} {alg}");
        }
    }
    // A name of one type says nothing about a key of another type.
    let (edwards, rsa) = (Key::edwards(), Key::rsa());
    let keys =
        [edwards.jwk_with(&json!({ "alg": "RS256" })), rsa.jwk_with(&json!({ "alg": "Ed25519" }))];
    let verifier = verifier(&serve(&keys).await);
    assert!(verifier.verify(&edwards.token("EdDSA", None)).await.is_err());
    assert!(verifier.verify(&rsa.token("RS256", None)).await.is_err());
}

#[tokio::test]
async fn a_key_signs_with_the_algorithm_that_it_declares() {
    for declared in ALGORITHMS {
        let key = match declared {
            "ES256" => Key::p256(),
            "ES384" => Key::p384(),
            "EdDSA" => Key::edwards(),
            _ => Key::rsa(),
        };
        let jwk = key.jwk_with(&json!({ "kid": "a", "alg": declared, "key_ops": ["verify"] }));
        let verifier = verifier(&serve(&[jwk]).await);
        for alg in ALGORITHMS {
            for kid in [None, Some("a")] {
                let accepted = verifier.verify(&key.token(alg, kid)).await.is_ok();
                assert_eq!(accepted, alg == declared, "{alg} with a key of {declared}");
            }
        }
    }
    // An RSA key that declares none signs with RS256, and another curve has another algorithm.
    for (key, used) in [(Key::rsa(), "RS256"), (Key::p384(), "ES384")] {
        let verifier = verifier(&serve(&[key.jwk()]).await);
        for alg in ALGORITHMS {
            let accepted = verifier.verify(&key.token(alg, None)).await.is_ok();
            assert_eq!(accepted, alg == used, "{alg}");
        }
    }
}

#[tokio::test]
async fn a_key_for_another_purpose_verifies_nothing() {
    for (more, is_used) in [
        (json!({ "key_ops": ["encrypt", "wrapKey"] }), false),
        (json!({ "key_ops": ["deriveBits"], "use": "sig" }), false),
        (json!({ "use": "enc" }), false),
        (json!({ "use": ["sig"] }), false),
        (json!({ "key_ops": [] }), true),
        (json!({ "key_ops": null, "use": "sig" }), true),
        (json!({ "key_ops": ["sign", "verify"], "ext": true }), true),
    ] {
        let key = Key::p256();
        let verifier = verifier(&serve(&[key.jwk_with(&more)]).await);
        assert_eq!(verifier.verify(&key.token("ES256", None)).await.is_ok(), is_used, "{more}");
    }
}

#[tokio::test]
async fn several_keys_may_have_one_id() {
    let keys = [Key::p256(), Key::rsa(), Key::p256()];
    let jwks = keys.each_ref().map(|key| key.jwk_with(&json!({ "kid": "same" })));
    let verifier = verifier(&serve(&jwks).await);
    for (key, alg) in keys.iter().zip(["ES256", "RS256", "ES256"]) {
        assert!(verifier.verify(&key.token(alg, Some("same"))).await.is_ok(), "{alg}");
    }
    assert!(verifier.verify(&Key::p256().token("ES256", Some("same"))).await.is_err());
}

#[tokio::test]
async fn a_token_without_a_key_id_may_be_signed_by_any_key() {
    let keys: Vec<Key> = (0..10).map(|_| Key::p256()).chain((0..3).map(|_| Key::rsa())).collect();
    let jwks: Vec<Value> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| key.jwk_with(&json!({ "kid": format!("k{index}") })))
        .collect();
    let verifier = verifier(&serve(&jwks).await);
    for (index, key) in keys.iter().enumerate() {
        let alg = if index < 10 { "ES256" } else { "RS256" };
        assert!(verifier.verify(&key.token(alg, None)).await.is_ok(), "{index}");
        let own = format!("k{index}");
        assert!(verifier.verify(&key.token(alg, Some(&own))).await.is_ok(), "{index}");
        let other = format!("k{}", (index + 1) % keys.len());
        for kid in [other.as_str(), "unknown", ""] {
            assert!(verifier.verify(&key.token(alg, Some(kid))).await.is_err(), "{index} {kid}");
        }
    }
    assert!(verifier.verify(&Key::p256().token("ES256", None)).await.is_err());
}

#[tokio::test]
async fn a_key_without_an_id_may_have_signed_any_token() {
    let (nameless, named, new) = (Key::p256(), Key::p256(), Key::p256());
    let keys = [nameless.jwk(), named.jwk_with(&json!({ "kid": "a" }))];
    let verifier = verifier(&serve(&keys).await);
    for kid in [None, Some("b"), Some("a")] {
        assert!(verifier.verify(&nameless.token("ES256", kid)).await.is_ok(), "{kid:?}");
    }
    assert!(verifier.verify(&named.token("ES256", Some("b"))).await.is_err());
    assert!(verifier.verify(&new.token("ES256", Some("b"))).await.is_err());
}

#[tokio::test]
async fn keys_are_read_in_the_encodings_that_providers_use() {
    let rsa = Key::rsa();
    let n = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let bytes = BASE64.decode(&n).unwrap();
    let with_zero = [&[0][..], &bytes].concat();
    for n in [
        n.clone(),
        BASE64_URL_SAFE.encode(&bytes),
        BASE64_STANDARD.encode(&bytes),
        BASE64.encode(&with_zero),
        format!("{}\n{}", &n[..64], &n[64..]),
    ] {
        let jwk = rsa.jwk_with(
            &json!({ "n": n, "use": "sig", "key_ops": ["verify"], "x5c": ["?"], "x5t": null }),
        );
        let verifier = verifier(&serve(&[jwk]).await);
        assert!(verifier.verify(&rsa.token("RS256", None)).await.is_ok(), "{n}");
    }
    // A coordinate whose leading zeros are missing, although RFC 7518 requires them.
    let short = std::iter::repeat_with(Key::p256)
        .find(|key| matches!(key, Key::Ec(pair) if pair.public_key().as_ref()[1] == 0))
        .unwrap();
    let x = BASE64.decode(short.jwk()["x"].as_str().unwrap()).unwrap();
    let jwk = short.jwk_with(&json!({ "x": BASE64.encode(x.strip_prefix(&[0]).unwrap()) }));
    let verifier = verifier(&serve(&[jwk]).await);
    assert!(verifier.verify(&short.token("ES256", None)).await.is_ok());
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let write = |keys: &[Value]| {
        std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    };
    let (first, second) = (Key::edwards(), Key::rsa());
    let verifier = verifier(url::Url::from_file_path(&file).unwrap().as_str());
    assert!(verifier.verify(&first.token("EdDSA", Some("1"))).await.is_err(), "no file");
    write(&[first.jwk_with(&json!({ "kid": "1" }))]);
    assert!(verifier.verify(&first.token("EdDSA", Some("1"))).await.is_ok());
    let keys = json!({ "keys": [second.jwk_with(&json!({ "kid": "2" }))] });
    std::fs::write(&file, format!("\u{feff}{keys}")).unwrap();
    assert!(verifier.verify(&second.token("RS256", Some("2"))).await.is_ok());
    assert!(verifier.verify(&first.token("EdDSA", Some("1"))).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_used_is_logged_once_with_the_reason() {
    let good = Key::edwards();
    let keys = [
        good.jwk_with(&json!({ "kid": "good" })),
        Key::rsa().jwk_with(&json!({ "kid": "encrypts", "use": "enc", "alg": "RSA-OAEP" })),
        json!({ "kty": "AKP", "kid": "post-quantum", "alg": "ML-DSA-44", "pub": "AAAA" }),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
        json!("not a key"),
    ];
    let url = serve(&keys).await;
    let database = Database::create().await.url("tenantry_app");
    let settings = [
        ("JWT_SECRET", String::new()),
        ("JWT_JWKS_URL", url),
        ("JWT_JWKS_COOLDOWN", "0".to_owned()),
        ("JWT_ISSUER", "https://id.example".to_owned()),
        ("JWT_AUDIENCE", "api".to_owned()),
    ];
    let served = tokio::task::spawn_blocking(move || {
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ServerProcess::start(&database, &settings)
    });
    let served = served.await.unwrap();
    let ask = async |token: String| {
        let client = Client::new(format!("{}/graphql", served.base), Some(token));
        client.query("{ viewer { id } }").await.status.as_u16()
    };
    assert_eq!(ask(good.token("EdDSA", Some("good"))).await, 200);
    // Each of these fetches the keys again.
    for kid in ["x", "y"] {
        assert_eq!(ask(good.token("EdDSA", Some(kid))).await, 401);
    }
    let log = served.log();
    for (kid, reason) in [
        ("encrypts", "its use is"),
        ("post-quantum", "its type AKP is not supported"),
        ("(none)", "an RSA key must have 2048 to 8192 bits"),
        ("(none)", "its type (none) is not supported"),
    ] {
        let lines = log.lines().filter(|line| {
            line.contains("a key of the issuer is not used")
                && line.contains(kid)
                && line.contains(reason)
        });
        assert_eq!(lines.count(), 1, "{kid} {reason}: {log}");
    }
}

#[tokio::test]
async fn empty_fields_of_a_key_count_as_absent() {
    for more in
        [json!({ "use": "" }), json!({ "alg": "", "kid": "" }), json!({ "use": null, "alg": null })]
    {
        let key = Key::rsa();
        let verifier = verifier(&serve(&[key.jwk_with(&more)]).await);
        assert!(verifier.verify(&key.token("RS256", None)).await.is_ok(), "{more}");
    }
}

#[tokio::test]
async fn an_address_without_keys_is_reported_with_what_it_has() {
    use axum::response::{IntoResponse, Redirect, Response};
    type Answer = (fn() -> Response, &'static str);
    let answers: [Answer; 4] = [
        (
            || Redirect::permanent("/elsewhere").into_response(),
            "redirects. Set the address to which it leads.",
        ),
        (
            || axum::Json(json!({ "issuer": "i", "jwks_uri": "https://i/keys" })).into_response(),
            "a discovery document. Set its jwks_uri as JWT_JWKS_URL.",
        ),
        // As Google publishes certificates for older libraries.
        (
            || axum::Json(json!({ "kid": "-----BEGIN CERTIFICATE-----" })).into_response(),
            "not a JWK set",
        ),
        (|| axum::Json(json!({ "keys": [{ "x5c": ["AAAA"] }] })).into_response(), "no usable key"),
    ];
    for (answer, expected) in answers {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let routes =
            axum::Router::new().route("/jwks", axum::routing::get(move || async move { answer() }));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let refused = verifier(&url).verify(&Key::rsa().token("RS256", None)).await.unwrap_err();
        let refused = format!("{refused:?}");
        assert!(refused.contains(expected), "{refused}");
    }
}
