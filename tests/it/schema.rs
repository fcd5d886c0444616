//! The schema as clients get it.

use std::{ffi::OsString, path::Path};

use serde_json::{Value, json};
use tenantry::{config::Introspection, schema::sdl};

use crate::support::{App, AppSettings, app};

#[test]
fn the_committed_schema_is_the_one_that_is_served() {
    let committed = include_str!("../../schema.graphql");
    assert!(committed == sdl(), "schema.graphql is stale: cargo run -- schema > schema.graphql");
}

#[tokio::test]
async fn everything_is_described() {
    let app = App::start().await;
    let data = app
        .person("acme-owner")
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
async fn root_mutations_cannot_be_null_and_take_one_input() {
    let app = App::start().await;
    let data = app
        .person("acme-owner")
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

#[tokio::test]
async fn every_error_code_is_in_the_catalogue() {
    let app = App::start().await;
    let data = app.person("acme-viewer").data("{ errorCodes }").await;
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
    assert_eq!(codes.len(), 20);
}

#[tokio::test]
async fn the_catalogue_of_plans_is_what_was_seeded() {
    let app = App::start().await;
    let data = app
        .person("acme-viewer")
        .data("{ plans { plan name position isDefault features { feature enabled limit } } planFeatures { plan feature limit } }")
        .await;
    insta::assert_json_snapshot!("plans", data);
}

#[tokio::test]
async fn who_may_explore_is_a_setting() {
    let explore = "{ __schema { queryType { name } } }";
    for (introspection, anonymous, signed_in) in [
        (Introspection::Always, 200, 200),
        (Introspection::Authenticated, 401, 200),
        (Introspection::Never, 401, 400),
    ] {
        let app = App::with(AppSettings { introspection, ..AppSettings::default() }).await;
        assert_eq!(app.client(None, None).query(explore).await.status, anonymous);
        assert_eq!(app.person("acme-viewer").query(explore).await.status, signed_in);
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
        // Whatever the setting, nothing else is open.
        app.client(None, None)
            .query("{ viewer { id } }")
            .await
            .assert_refused(401, "UNAUTHENTICATED");
        let mixed = "{ __typename viewer { id } }";
        app.client(Some("acme"), None).query(mixed).await.assert_refused(401, "UNAUTHENTICATED");
    }
}

#[test]
fn the_docs_of_the_api_are_those_of_the_schema() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let written = std::fs::read_to_string(file).unwrap();
    assert!(
        written == tenantry::api_docs::api_docs(),
        "run: cargo run -- schema --docs > docs/api.md"
    );
}

#[test]
fn the_docs_list_every_setting_of_the_command_line() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let written = std::fs::read_to_string(file).unwrap();
    assert!(
        written == tenantry::cli::configuration_docs(),
        "run: cargo run -- schema --configuration > docs/configuration.md"
    );
}

#[tokio::test]
async fn generators_of_clients_find_nothing_wrong_and_their_clients_are_served() {
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
    let url = app.person("acme-owner").url;
    node(vec!["clients.mjs".into(), url.into(), app::token("acme-owner").into(), artifacts.into()])
        .await;
}
