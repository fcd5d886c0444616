//! The authorization matrix: every field that returns data, for every kind of caller, as one
//! committed snapshot. A new field fails the test until someone decides who may read it.

mod documents;

use std::fmt::Write as _;

use apollo_compiler::ast::FieldDefinition;
use serde_json::{Value, json};

use crate::support::{App, Client, app};
use documents::Documents;

const ACTORS: [&str; 6] = ["owner", "admin", "member", "viewer", "outsider", "anonymous"];

/// Each outcome that a document of the matrix may have. Another one shows that the document does
/// not reach its field.
const OUTCOMES: [&str; 7] =
    ["ok", "null", "FORBIDDEN", "NOT_FOUND", "CONFLICT", "404 NOT_FOUND", "401 UNAUTHENTICATED"];

fn actor(app: &App, name: &str) -> Client {
    match name {
        "outsider" => app.client(Some("acme"), Some(app::token("globex-owner"))),
        "anonymous" => app.client(Some("acme"), None),
        role => app.user(&format!("acme-{role}")),
    }
}

/// Returns the first value at the end of the only path of the document.
fn leaf(data: &Value) -> &Value {
    let inner = match data {
        Value::Object(fields) => fields.values().next(),
        Value::Array(items) => items.first(),
        _ => None,
    };
    inner.map_or(data, leaf)
}

/// Returns `ok`, `null` for a value that is absent or hidden without an error, or the code of the
/// error.
fn outcome(reply: &crate::support::Reply) -> String {
    match reply.codes().as_slice() {
        [] if leaf(&reply.body["data"]).is_null() => "null".to_owned(),
        [] => "ok".to_owned(),
        codes if reply.status == 200 => codes.join(" "),
        codes => format!("{} {}", reply.status.as_u16(), codes.join(" ")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_field_allows_what_the_matrix_says() {
    let app = App::start().await;
    let documents = Documents::new(&app).await;
    let mut changing = None;
    let mut matrix = format!("{:<35}", "");
    for name in ACTORS {
        write!(matrix, " {name:<22}").unwrap();
    }
    for (type_name, field) in documents.fields() {
        write!(matrix, "\n{:<35}", format!("{type_name}.{}", field.name)).unwrap();
        let mut outcomes = Vec::new();
        // Those who may do least come first, so that most changes are refused on one database.
        for actor_name in ACTORS.into_iter().rev() {
            let outcome = if type_name == "Mutation" {
                mutate(&mut changing, field, actor_name).await
            } else {
                let document = documents.document(type_name, field);
                outcome(&actor(&app, actor_name).query(&document).await)
            };
            assert!(
                OUTCOMES.contains(&outcome.as_str()),
                "{type_name}.{} as {actor_name}: {outcome}",
                field.name
            );
            outcomes.push(outcome);
        }
        for outcome in outcomes.iter().rev() {
            write!(matrix, " {outcome:<22}").unwrap();
        }
    }
    let matrix: Vec<_> = matrix.lines().map(str::trim_end).collect();
    insta::assert_snapshot!("matrix", matrix.join("\n"));
}

/// A database that no mutation has changed yet.
struct Unchanged {
    app: App,
    documents: Documents,
    fingerprint: Vec<(String, String)>,
}

/// Runs a mutation. Asserts that it changes the database if it succeeds, and only then. The next
/// mutation after a change gets a new database.
async fn mutate(
    unchanged: &mut Option<Unchanged>,
    field: &FieldDefinition,
    actor_name: &str,
) -> String {
    let before = if let Some(before) = unchanged.take() {
        before
    } else {
        let app = App::start().await;
        let documents = Documents::new(&app).await;
        let fingerprint = app.database.fingerprint().await;
        Unchanged { app, documents, fingerprint }
    };
    let document = before.documents.document("Mutation", field);
    let reply = actor(&before.app, actor_name).query(&document).await;
    let outcome = outcome(&reply);
    let is_unchanged = before.app.database.fingerprint().await == before.fingerprint;
    let name = field.name.as_str();
    let changes = outcome == "ok" && !["cancelSubscription", "query"].contains(&name);
    assert_eq!(!is_unchanged, changes, "{name} as {actor_name}: {reply:?}");
    *unchanged = is_unchanged.then_some(before);
    outcome
}

#[tokio::test]
async fn viewer_permissions_match_the_enforced_ones() {
    let app = App::start().await;
    let mut lines = String::new();
    for role in ["owner", "admin", "member", "viewer"] {
        let data =
            app.user(&format!("acme-{role}")).data("{ organization { viewerPermissions } }").await;
        let permissions: Vec<_> = data["organization"]["viewerPermissions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|permission| permission.as_str().unwrap())
            .collect();
        writeln!(lines, "{role}: {}", permissions.join(" ")).unwrap();
    }
    insta::assert_snapshot!("permissions", lines);
}

#[tokio::test]
async fn a_field_names_the_permission_that_it_requires() {
    let app = App::start().await;
    let reply = app
        .user("acme-member")
        .query("{ organization { name auditLogs { nodes { id } } billing { plan { key } } } }")
        .await;
    assert_eq!(reply.codes(), ["FORBIDDEN", "FORBIDDEN"]);
    assert_eq!(
        reply.body["data"]["organization"],
        json!({ "name": "Acme", "auditLogs": null, "billing": null })
    );
    let mut named: Vec<_> = reply.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["extensions"]["permission"].as_str().unwrap())
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["AUDIT_LOG_READ", "BILLING_READ"]);
    let sdl = tenantry::schema::sdl();
    assert!(sdl.contains("billing: Billing @requiresPermission(permission: BILLING_READ)"));
}
