//! Questions to the control database from an organization that lives in another: their number and
//! their size are held against the operation's limits, and aliases do not multiply them.

use serde_json::{Value, json};

use crate::{
    databases::acme_in_eu,
    performance::relay::Relay,
    support::{App, AppSettings},
};

fn aliases(field: &str, count: usize) -> String {
    let fields: Vec<_> =
        (0..count).map(|n| format!("{field}{n}: {field} {{ __typename }}")).collect();
    fields.join(" ")
}

#[tokio::test]
async fn aliases_ask_the_control_database_once() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::between(folder.path(), &control.socket()).unwrap();
    let socket = Some(folder.path().to_owned());
    let app =
        App::on(control, AppSettings { socket, dedicated: vec![eu], ..AppSettings::default() })
            .await;
    let owner = app.user("acme-owner");
    let mut seen = Vec::new();
    for times in [1, 14] {
        let [memberships, identities] =
            ["memberships", "identities"].map(|field| aliases(field, times));
        let query = format!("{{ viewer {{ {memberships} {identities} }} }}");
        for _ in 0..3 {
            owner.data(&query).await;
        }
        relay.take();
        owner.data(&query).await;
        seen.push(relay.take().statements);
    }
    // Rollbacks and background work add a few statements to some counts; a statement for each alias
    // would add 26.
    assert!(seen[1] < seen[0] + 13, "{seen:?}");
}

#[tokio::test]
async fn what_the_control_database_answers_counts() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let memberships = "{ viewer { memberships { name } } }";
    let on = |statements: u32, bytes: u64| {
        let mut settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
        settings.cost.statements = statements;
        settings.cost.bytes = bytes;
        App::on(control.clone(), settings)
    };
    // The opening and the user are two, those of the control database two more.
    let app = on(3, 1_000_000).await;
    let refused = app.user("acme-owner").query(memberships).await;
    refused.assert_refused(400, "QUERY_TOO_COMPLEX");
    let app = on(4, 1_000_000).await;
    app.user("acme-owner").data(memberships).await;
    // A member of many organizations.
    control
        .execute(
            "WITH many AS (
                 INSERT INTO app.organizations (name, slug)
                 SELECT repeat('x', 100), 'many-' || n FROM generate_series(1, 200) n RETURNING id)
             INSERT INTO auth.organization_members (organization_id, user_id, role)
             SELECT m.id, i.user_id, 'viewer' FROM many m, auth.identities i WHERE i.subject = 'acme-owner'",
        )
        .await;
    let all = app.user("acme-owner").data(memberships).await;
    assert_eq!(all["viewer"]["memberships"].as_array().unwrap().len(), 201);
    let app = on(100, 8_000).await;
    let refused = app.user("acme-owner").query(memberships).await;
    refused.assert_refused(400, "QUERY_TOO_COMPLEX");
    // And for those that follow in a batch.
    let app = on(100, 100_000).await;
    let batch = vec![json!({ "query": memberships }); 6];
    let reply = app.user("acme-owner").send(&Value::Array(batch)).await;
    let answers = reply.body.as_array().unwrap();
    assert!(answers[0]["data"].is_object(), "{}", answers[0]);
    assert_eq!(answers[5]["errors"][0]["extensions"]["code"], "QUERY_TOO_COMPLEX");
}
