//! Values that fit their types but make no sense: control characters, incomplete text, times beyond
//! every calendar.

use serde_json::{Value, json};

use crate::support::App;

const BAD: &str = "BAD_USER_INPUT";
const ABSENT: &str = "NOT_FOUND";
const MISFIT: &str = "GRAPHQL_VALIDATION_FAILED";

fn filter(kind: &str, field: &str) -> String {
    format!(
        "query ($v: {kind}) {{ organization {{ auditLogs(filter: {{ {field}: $v }}) {{ nodes {{ id }} }} }} }}"
    )
}

#[tokio::test]
async fn a_text_with_any_characters_gets_a_response_and_changes_nothing() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    owner.data("{ viewer { id } }").await;
    let before = app.database.fingerprint().await;
    let change = |field: &str, input: &str, selection: &str| {
        format!("mutation ($v: String!) {{ {field}(input: {{ {input} }}) {{ {selection} }} }}")
    };
    let change_id = |field: &str, input: &str| {
        format!("mutation ($v: ID!) {{ {field}(input: {{ {input}: $v }}) {{ __typename }} }}")
    };
    let page = |argument: &str| {
        format!(
            "query ($v: String) {{ organization {{ projects(first: 1, {argument}: $v) {{ nodes {{ id }} }} }} }}"
        )
    };
    let mut documents = vec![
        (filter("String", "action"), BAD),
        (filter("String", "resourceType"), BAD),
        (filter("ID", "resourceId"), BAD),
        (filter("ID", "actorId"), BAD),
        (page("after"), BAD),
        (page("before"), BAD),
        (change("createProject", "name: $v", "project { id }"), BAD),
        (change("createProject", "name: \"x\", description: $v", "project { id }"), BAD),
        (change("updateOrganization", "name: $v", "organization { id }"), BAD),
        (change("updateOrganization", "slug: $v", "organization { id }"), BAD),
        (change("createOrganization", "name: \"x\", slug: $v", "organization { id }"), BAD),
        (change("inviteMember", "email: $v, role: VIEWER", "invitation { id }"), BAD),
        (change("changePlan", "plan: $v", "billing { plan { key } }"), BAD),
        (change("startTrial", "plan: $v", "billing { plan { key } }"), BAD),
        (change("consumeUsage", "feature: $v, amount: 1", "entitlement { used }"), BAD),
        (change("deleteOrganization", "slug: $v", "organization { id }"), BAD),
        (change("acceptInvitation", "token: $v", "member { id }"), ABSENT),
    ];
    for (field, input) in [
        ("deleteProject", "id"),
        ("updateProject", "id"),
        ("removeMember", "id"),
        ("resendInvitation", "id"),
        ("revokeInvitation", "id"),
        ("transferOwnership", "memberId"),
        ("cancelSubscription", "organizationId"),
        ("leaveOrganization", "organizationId"),
    ] {
        documents.push((change_id(field, input), ABSENT));
    }
    let long = "\u{0}".repeat(100_000);
    let texts = [
        "\u{0}",
        "a\u{0}b",
        "a\u{1b}[2Jb",
        "a\u{202e}b",
        "a\u{2066}b",
        "\u{feff}",
        "a\u{2028}b",
        "'; --\u{0}",
        &long,
    ];
    let mut wrong = Vec::new();
    for (document, code) in &documents {
        for text in texts {
            let reply = owner.query_with(document, json!({ "v": text })).await;
            if (reply.status.as_u16(), reply.codes()) != (200, vec![*code])
                || reply.text.len() > 2_000
            {
                let start: String = reply.text.chars().take(300).collect();
                wrong.push(format!(
                    "{document} with {:?}: {} {start}",
                    &text[..text.len().min(8)],
                    reply.status
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    for id in ["\u{0}", "a\u{202e}b", long.as_str()] {
        let find = "query ($v: ID!) { node(id: $v) { id } nodes(ids: [$v]) { id } organization { project(id: $v) { id } member(id: $v) { id } } }";
        let nothing = json!({ "node": null, "nodes": [null], "organization": { "project": null, "member": null } });
        assert_eq!(owner.query_with(find, json!({ "v": id })).await.data(), nothing);
    }
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn times_and_numbers_out_of_range_are_rejected() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let page =
        "query ($v: Int) { organization { projects(first: $v) { nodes { id } } } }".to_owned();
    let id = "query ($v: ID!) { node(id: $v) { id } }".to_owned();
    let since = filter("DateTime", "since");
    let usage =
        "query ($v: DateTime) { organization { usage(feature: \"exports\", from: $v) { used } } }";
    let cases: Vec<(&str, Value, u16, &str)> = vec![
        (&since, json!("-9999-01-01T00:00:00Z"), 200, BAD),
        (&since, json!("+262142-01-01T00:00:00Z"), 200, BAD),
        (&since, json!("0000-01-01T00:00:00Z"), 200, BAD),
        (usage, json!("+262142-01-01T00:00:00Z"), 200, BAD),
        (&since, json!("9999-12-31T23:59:59-23:59"), 200, BAD),
        (&since, json!("99999999999999999999-01-01T00:00:00Z"), 200, BAD),
        (&since, json!("2026-02-30T00:00:00Z"), 200, BAD),
        (&since, json!("2026-01-01T00:00:00\u{0}Z"), 200, BAD),
        (&since, json!(0), 200, BAD),
        (&since, json!({ "a": [] }), 200, BAD),
        (&page, json!(-1), 200, BAD),
        (&page, json!(i32::MIN), 200, BAD),
        (&page, json!(101), 200, BAD),
        (&page, json!(i32::MAX), 200, BAD),
        (&page, json!(2_147_483_648_i64), 400, MISFIT),
        (&page, json!(1.5), 400, MISFIT),
        (&page, json!("1"), 400, MISFIT),
        (&page, json!(true), 400, MISFIT),
        (&id, json!(1.5), 400, MISFIT),
        (&id, json!(1e300), 400, MISFIT),
        (&id, json!(null), 400, MISFIT),
    ];
    for (document, value, status, code) in cases {
        let reply = owner.query_with(document, json!({ "v": value })).await;
        assert_eq!(
            (reply.status.as_u16(), reply.codes()),
            (status, vec![code]),
            "{value}: {reply:?}"
        );
    }
    let ids = vec!["x"; 101];
    let many = "query ($v: [ID!]!) { nodes(ids: $v) { id } }";
    assert_eq!(owner.query_with(many, json!({ "v": ids })).await.codes(), [BAD]);
}
