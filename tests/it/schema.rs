//! The schema as clients get it.

use std::{ffi::OsString, fs, path::Path, sync::Arc};

use apollo_compiler::Schema;
use serde_json::{Value, json};
use tenantry::{
    action::Action,
    config::Introspection,
    declared::Declared as _,
    graphql::document::GraphqlRequest,
    schema::{Api, sdl},
};

use crate::support::{App, AppSettings, app, resources::further_resources};

#[test]
fn the_committed_schema_is_the_served_one() {
    let committed = include_str!("../../schema.graphql");
    assert!(committed == sdl(), "schema.graphql is stale: cargo run -- schema > schema.graphql");
}

#[tokio::test]
async fn a_document_is_read_once_for_all_who_wait_for_it() {
    let api = Api::new(AppSettings::default().limits, false).unwrap();
    let request =
        || GraphqlRequest { query: "{ viewer { id } }".to_owned(), ..GraphqlRequest::default() };
    // While one request waits for its turn, another reads the document.
    let mut read = None;
    let turn = async {
        read = Some(api.read(request(), async { Ok(()) }).await?);
        Ok(())
    };
    let second = api.read(request(), turn).await.unwrap();
    assert!(Arc::ptr_eq(&read.unwrap().operation, &second.operation));
}

#[tokio::test]
async fn every_type_and_field_has_a_description() {
    let app = App::start().await;
    let data = app
        .user("acme-owner")
        .data(
            "{ __schema { types { name kind description fields { name description args { name description } }
               inputFields { name description } enumValues { name description } } directives { name description } } }",
        )
        .await;
    let mut missing = Vec::new();
    for kind in data["__schema"]["types"].as_array().unwrap() {
        let name = kind["name"].as_str().unwrap();
        if name.starts_with("__") || ["Int", "Float", "String", "Boolean", "ID"].contains(&name) {
            continue;
        }
        let mut check = |what: String, item: &Value| {
            if item["description"].as_str().is_none_or(str::is_empty) {
                missing.push(what);
            }
        };
        check(name.to_owned(), kind);
        for list in ["fields", "inputFields", "enumValues"] {
            for item in kind[list].as_array().into_iter().flatten() {
                let path = format!("{name}.{}", item["name"].as_str().unwrap());
                for argument in item["args"].as_array().into_iter().flatten() {
                    check(format!("{path}({})", argument["name"].as_str().unwrap()), argument);
                }
                check(path, item);
            }
        }
    }
    assert!(missing.is_empty(), "no description: {missing:?}");
}

#[tokio::test]
async fn root_mutations_are_non_null_and_take_one_input() {
    let app = App::start().await;
    let data = app
        .user("acme-owner")
        .data("{ __schema { mutationType { fields { name type { kind ofType { name } } args { name type { kind ofType { name } } } } } } }")
        .await;
    let fields = data["__schema"]["mutationType"]["fields"].as_array().unwrap();
    assert!(fields.len() >= 5);
    for field in fields {
        let name = field["name"].as_str().unwrap();
        if name == "query" {
            continue;
        }
        let pascal = name[..1].to_uppercase() + &name[1..];
        let non_null = |kind: String| json!({ "kind": "NON_NULL", "ofType": { "name": kind } });
        assert_eq!(field["type"], non_null(format!("{pascal}Payload")), "{name}");
        assert_eq!(
            field["args"],
            json!([{ "name": "input", "type": non_null(format!("{pascal}Input")) }])
        );
    }
}

/// A new mutation fails this test until its traits are decided: a permission, or who may call it
/// without one, and the limits that apply to it.
#[test]
fn every_mutation_declares_who_may_call_it_and_which_limits_apply() {
    let schema = Schema::parse_and_validate(sdl(), "schema.graphql").unwrap();
    let mutations = schema.get_object("Mutation").unwrap().fields.values();
    let mut traits = Vec::new();
    for field in mutations.filter(|field| field.name != "query") {
        let directives: Vec<_> = field.directives.iter().map(ToString::to_string).collect();
        let declared = field.directives.has("requiresPermission") || field.directives.has("alone");
        assert!(declared, "{} has neither @requiresPermission nor @alone", field.name);
        traits.push(format!("{} {}", field.name, directives.join(" ")));
    }
    insta::assert_snapshot!("mutations", traits.join("\n"));
}

#[tokio::test]
async fn every_error_code_is_in_the_enumeration() {
    let app = App::start().await;
    let data = app.user("acme-viewer").data("{ errorCodes }").await;
    let codes = data["errorCodes"].as_array().unwrap();
    for code in [
        "UNAUTHENTICATED",
        "NOT_FOUND",
        "GRAPHQL_PARSE_FAILED",
        "PERSISTED_QUERY_NOT_FOUND",
        "IDEMPOTENCY_CONFLICT",
        "INTERNAL",
    ] {
        assert!(codes.contains(&json!(code)), "{code}");
    }
    assert_eq!(codes.len(), 22);
}

#[tokio::test]
async fn the_plans_are_the_seeded_ones() {
    let app = App::start().await;
    let data = app
        .user("acme-viewer")
        .data("{ plans { key name position isDefault features { feature { key } enabled limit } } planFeatures { plan { key } feature { key } limit } }")
        .await;
    insta::assert_json_snapshot!("plans", data);
}

#[tokio::test]
async fn a_setting_decides_who_may_introspect() {
    let explore = "{ __schema { queryType { name } } }";
    for (introspection, anonymous, signed_in) in [
        (Introspection::Always, 200, 200),
        (Introspection::Authenticated, 401, 200),
        (Introspection::Never, 401, 400),
    ] {
        let app = App::with(AppSettings { introspection, ..AppSettings::default() }).await;
        assert_eq!(app.client(None, None).query(explore).await.status, anonymous);
        assert_eq!(app.user("acme-viewer").query(explore).await.status, signed_in);
        let mut file = app.client(None, None);
        file.url = format!("{}/schema.graphql", app.base);
        let page = reqwest::get(format!("{}/graphiql", app.base)).await.unwrap().status();
        assert_eq!(page == 404, introspection == Introspection::Never);
        let expected = if introspection == Introspection::Never { 404 } else { anonymous };
        let reply = crate::support::Reply::of(file.get()).await;
        assert_eq!(reply.status, expected);
        if reply.status == 200 {
            assert_eq!(reply.text, sdl());
        }
        // The setting opens nothing else.
        app.client(None, None)
            .query("{ viewer { id } }")
            .await
            .assert_refused(401, "UNAUTHENTICATED");
        let mixed = "{ __typename viewer { id } }";
        app.client(Some("acme"), None).query(mixed).await.assert_refused(401, "UNAUTHENTICATED");
    }
}

#[test]
fn the_api_docs_match_the_schema() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let written = fs::read_to_string(file).unwrap();
    assert!(
        written == tenantry::api_docs::api_docs(),
        "run: cargo run -- schema --docs > docs/api.md"
    );
}

#[test]
fn the_tables_of_pages_match_what_areas_declare() {
    for (page, table) in [("docs/roles.md", "permissions"), ("docs/audit.md", "actions")] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let written = fs::read_to_string(file).unwrap();
        assert!(written.contains(&format!("<!-- table: {table} -->")), "{page}");
        assert!(
            written == tenantry::api_docs::with_tables(&written).unwrap(),
            "run: cargo run -- schema --tables {page}"
        );
    }
    assert!(tenantry::api_docs::with_tables("<!-- table: actions -->").is_err());
    assert!(
        tenantry::api_docs::with_tables("<!-- table: others --> <!-- end of table -->").is_err()
    );
}

#[test]
fn the_configuration_docs_match_the_command_line() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let written = fs::read_to_string(file).unwrap();
    assert!(
        written == tenantry::cli::configuration_docs(),
        "run: cargo run -- schema --configuration > docs/configuration.md"
    );
}

#[tokio::test]
async fn client_generators_accept_the_schema_and_their_clients_work() {
    let Some(scripts) = crate::support::node::packages().await else {
        eprintln!("SKIPPED: npm is missing");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let artifacts = Path::new(env!("CARGO_TARGET_TMPDIR")).join("relay");
    let node = |arguments: Vec<OsString>| async move {
        let output =
            tokio::process::Command::new("node").args(arguments).current_dir(scripts).output();
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (schema, released) = (root.join("schema.graphql"), root.join("tests/it/released.graphql"));
    node(vec!["schema.mjs".into(), schema.into(), released.into(), artifacts.clone().into()]).await;
    let app = App::start().await;
    let url = app.user("acme-owner").url;
    node(vec!["clients.mjs".into(), url.into(), app::token("acme-owner").into(), artifacts.into()])
        .await;
}

#[test]
fn the_example_app_has_a_sentence_for_each_audit_action() {
    let words = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/spa/src/pages/audit-words.ts");
    let words = fs::read_to_string(words).unwrap();
    let has_none = |name: &&str| !words.contains(&format!("\n  '{name}': ("));
    // The app shows a general sentence for the actions of further resources.
    let further = further_resources();
    let is_further = |name: &&str| {
        further.iter().any(|one| name.split_once('.').is_some_and(|(kind, _)| kind == one.kind))
    };
    let names = Action::all().iter().map(|action| action.name());
    let without: Vec<_> = names.filter(|name| !is_further(name)).filter(has_none).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[tokio::test]
async fn the_list_of_audit_actions_is_complete() {
    let app = App::start().await;
    let data = app.user("acme-viewer").data("{ auditActions }").await;
    let mut names: Vec<_> = Action::all().iter().map(|action| action.name()).collect();
    assert_eq!(data["auditActions"], json!(names));
    // The names that areas declare in the sources, of which none is left out or declared twice.
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders = [src.join("app"), src].map(|folder| fs::read_dir(folder).unwrap());
    let areas = folders.into_iter().flatten().map(|folder| folder.unwrap().path().join("area.rs"));
    let texts: String = areas.filter_map(|area| fs::read_to_string(area).ok()).collect();
    let declared = texts.split(" = \"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let mut declared: Vec<_> = declared.filter(|name| name.contains('.')).collect();
    names.sort_unstable();
    declared.sort_unstable();
    assert_eq!(names, declared);
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}
