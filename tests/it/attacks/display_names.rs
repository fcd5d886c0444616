//! Display names and addresses with invisible characters, which imitate another user.

use serde_json::{Value, json};
use tenantry::tenancy::AccountLinking;

use crate::support::{App, AppSettings, app::token_with};

/// One character of each kind: bidirectional controls, ignorable characters, blanks, and characters
/// that belong to other text.
const UNSEEN: [char; 34] = [
    '\u{ad}',
    '\u{34f}',
    '\u{61c}',
    '\u{115f}',
    '\u{1160}',
    '\u{17b4}',
    '\u{180b}',
    '\u{180e}',
    '\u{200b}',
    '\u{200d}',
    '\u{200f}',
    '\u{2028}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{2800}',
    '\u{3164}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{ffa0}',
    '\u{17b5}',
    '\u{fff9}',
    '\u{fffc}',
    '\u{fdd0}',
    '\u{fdef}',
    '\u{ffff}',
    '\u{1fffe}',
    '\u{10ffff}',
    '\u{13441}',
    '\u{1d159}',
    '\u{1d173}',
    '\u{e0020}',
    '\u{e0061}',
    '\u{e0100}',
];

async fn viewer(app: &App, claims: Value) -> Value {
    let client = app.client(None, Some(token_with(&claims)));
    client.data("{ viewer { id name email } }").await["viewer"].clone()
}

#[tokio::test]
async fn invisible_characters_are_removed_from_names_in_tokens() {
    let app = App::start().await;
    for (index, char) in UNSEEN.into_iter().enumerate() {
        let claims = json!({ "sub": format!("among-{index}"), "name": format!("Oli{char}via") });
        assert_eq!(viewer(&app, claims).await["name"], "Olivia", "{char:?}");
        let claims = json!({ "sub": format!("alone-{index}"), "name": format!(" {char}{char}\t") });
        assert_eq!(viewer(&app, claims).await["name"], Value::Null, "{char:?}");
    }
    // Persian and emoji need some of these characters between their letters.
    for (index, name) in [
        "Zoë Ångström 石川",
        "\u{639}\u{644}\u{6cc}\u{200c}\u{631}\u{636}\u{627}",
        "\u{1f469}\u{200d}\u{1f680} Ada",
    ]
    .iter()
    .enumerate()
    {
        let kept = json!({ "sub": format!("kept-{index}"), "name": name });
        assert_eq!(viewer(&app, kept).await["name"], *name);
    }
}

#[tokio::test]
async fn an_address_with_invisible_characters_is_ignored() {
    let account_linking = AccountLinking::VerifiedEmail;
    let app = App::with(AppSettings { account_linking, ..AppSettings::default() }).await;
    let verified = |subject: &str, email: &str| json!({ "sub": subject, "email": email, "email_verified": true });
    let victim = viewer(&app, verified("victim", "victim@x.example")).await;
    assert_eq!(victim["email"], "victim@x.example");
    let unseen = UNSEEN.map(|char| format!("vic{char}tim@x.example"));
    let similar = ["\u{212a}im@x.example", "victim\t@x.example", "<victim@x.example>"];
    let all = unseen.iter().map(String::as_str).chain(similar);
    for (index, email) in all.enumerate() {
        let attacker = viewer(&app, verified(&format!("attacker-{index}"), email)).await;
        assert_ne!(attacker["id"], victim["id"], "{email:?}");
        assert_eq!(attacker["email"], Value::Null, "{email:?}");
    }
    // These values of `email_verified` do not verify an address.
    for (index, word) in [json!(false), json!("yes"), json!(0), Value::Null].into_iter().enumerate()
    {
        let claims = json!({ "sub": format!("unverified-{index}"), "email": "victim@x.example", "email_verified": word });
        assert_ne!(viewer(&app, claims).await["id"], victim["id"], "{word}");
    }
}

#[tokio::test]
async fn names_with_invisible_characters_are_rejected() {
    let app = App::start().await;
    let create =
        "mutation ($name: String!) { createProject(input: { name: $name }) { project { name } } }";
    let owner = app.user("acme-owner");
    for char in UNSEEN {
        let variables = json!({ "name": format!("{char} {char}") });
        owner.query_with(create, variables.clone()).await.assert_failed("BAD_USER_INPUT");
        for mutation in [
            "mutation ($name: String!) { createOrganization(input: { name: $name, slug: \"blank\" }) { organization { id } } }",
            "mutation ($name: String!) { updateOrganization(input: { name: $name }) { organization { id } } }",
            "mutation ($name: String!) { updateViewer(input: { name: $name }) { viewer { id } } }",
        ] {
            let reply = owner.query_with(mutation, variables.clone()).await;
            reply.assert_failed("BAD_USER_INPUT");
        }
    }
    // Emoji and joined letters contain some of these characters legitimately.
    let heart = json!({ "name": "\u{2764}\u{fe0f} \u{645}\u{6cc}\u{200c}\u{62e}" });
    owner.query_with(create, heart).await.data();
}
