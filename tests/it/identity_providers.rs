//! The pages about identity providers: with the settings of each page, the page's token identifies
//! the caller that the page promises.

use std::{collections::HashMap, fs, path::Path};

use serde_json::Value;
use tenantry::{
    auth::{Caller, Claims, Verifier, sign},
    clock::Clock,
};

use crate::support::app::SECRET;

/// Returns the settings that a page exports, and the payload of its token.
fn page(name: &str) -> (HashMap<String, String>, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/identity-providers");
    let text = fs::read_to_string(folder.join(name).with_extension("md")).unwrap();
    let settings = text.lines().filter_map(|line| {
        let (variable, rest) = line.strip_prefix("export ")?.split_once('=')?;
        Some((variable.to_owned(), rest.split_whitespace().next()?.to_owned()))
    });
    let mut blocks = text.split("```json\n").skip(1);
    let payload = blocks.find_map(|block| {
        let payload = serde_json::from_str::<Value>(block.split("```").next()?).ok()?;
        payload.get("iss").is_some().then_some(payload)
    });
    (settings.collect(), payload.expect("the page shows no token"))
}

async fn caller(name: &str) -> Caller {
    let (settings, payload) = page(name);
    let setting = |variable: &str| settings.get(variable).cloned();
    let claims = Claims {
        issuer: setting("JWT_ISSUER"),
        audience: setting("JWT_AUDIENCE"),
        email: "email".to_owned(),
        email_trusted: setting("JWT_EMAIL_VERIFIED").as_deref() == Some("trusted"),
        organization: setting("JWT_ORG_CLAIM").unwrap_or_else(|| "org".to_owned()),
    };
    assert!(claims.issuer.is_some() && claims.audience.is_some(), "{name}");
    let verifier = Verifier::with_secrets(&[SECRET], claims, Clock::system());
    let caller = verifier.verify(&sign(SECRET, &payload).unwrap()).await;
    caller.unwrap_or_else(|error| panic!("{name}: {error:?}")).as_ref().clone()
}

#[tokio::test]
async fn the_token_of_each_page_works_with_its_settings() {
    for (name, organization) in [
        ("auth0", Some("acme")),
        ("clerk", Some("acme")),
        ("keycloak", Some("acme")),
        ("supabase", Some("acme")),
        ("entra-id", None),
        ("cognito", Some("acme")),
    ] {
        let caller = caller(name).await;
        assert_eq!(caller.email.as_deref(), Some("ada@example.com"), "{name}");
        assert_eq!(caller.organization.as_deref(), organization, "{name}");
        let has_name = name != "supabase";
        assert_eq!(caller.name.as_deref(), has_name.then_some("Ada Lovelace"), "{name}");
    }
}
