//! A mutation is written as a whole or not at all, and its response is sent after its COMMIT.

use serde_json::json;

use crate::support::App;

#[tokio::test]
async fn a_document_whose_second_field_fails_writes_nothing() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    for failing in [
        "b: updateProject(input: { id: \"67e55044-10b1-426f-9247-bb680e5fe0c8\", name: \"x\" }) { project { id } }",
        "b: createProject(input: { name: \"\" }) { project { id } }",
    ] {
        let reply = app
            .user("acme-owner")
            .query(&format!("mutation {{ a: createProject(input: {{ name: \"first\" }}) {{ project {{ id }} }} {failing} }}"))
            .await;
        assert_eq!(reply.body["data"], json!(null));
        assert_eq!(reply.codes().len(), 1);
        assert_eq!(reply.body["errors"][0]["path"], json!(["b"]));
        assert_eq!(app.database.fingerprint().await, before, "audit rows included");
    }
}

#[tokio::test]
async fn several_changes_are_one_transaction() {
    let app = App::start().await;
    let reply = app
        .user("acme-owner")
        .query(
            "mutation { a: createProject(input: { name: \"first\" }) { project { name } }
                        b: createProject(input: { name: \"second\" }) { project { name } }
                        updateOrganization(input: { name: \"Acme 2\" }) { organization { name projects { totalCount } } } }",
        )
        .await;
    let text = reply.text.clone();
    let data = reply.data();
    assert_eq!(
        data["updateOrganization"]["organization"],
        json!({ "name": "Acme 2", "projects": { "totalCount": 6 } })
    );
    assert!(text.find("\"a\"") < text.find("\"b\""), "in the order of the document: {text}");
    let logs = app
        .user("acme-owner")
        .data("{ organization { auditLogs(first: 3) { nodes { action metadata } } } }")
        .await;
    let nodes = &logs["organization"]["auditLogs"]["nodes"];
    assert_eq!(nodes[0]["action"], "organization.updated");
    assert_eq!(
        (&nodes[1]["metadata"]["name"], &nodes[2]["metadata"]["name"]),
        (&json!("second"), &json!("first"))
    );
}

#[tokio::test]
async fn a_forbidden_field_in_the_payload_does_not_undo_the_change() {
    let app = App::start().await;
    let reply = app
        .user("acme-admin")
        .query(
            "mutation { updateOrganization(input: { name: \"kept\" }) {
                 organization { name auditLogs(first: 1000) { nodes { id } } } } }",
        )
        .await;
    assert_eq!((reply.status.as_u16(), reply.codes()), (200, vec!["BAD_USER_INPUT"]), "{reply:?}");
    assert_eq!(
        reply.body["data"]["updateOrganization"]["organization"],
        json!({ "name": "kept", "auditLogs": null })
    );
    let kept: i64 =
        app.database.value("SELECT count(*) FROM app.organizations WHERE name = 'kept'").await;
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_change_that_commit_rejects_is_not_reported_as_done() {
    let app = App::start().await;
    // A constraint that PostgreSQL checks at COMMIT only.
    app.database
        .execute(
            "CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON app.projects DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION app.refuse()",
        )
        .await;
    let before = app.database.fingerprint().await;
    let create = "mutation { createProject(input: { name: \"x\" }) { project { id } } }";
    let reply = app.user("acme-owner").query(create).await;
    reply.assert_failed("INTERNAL");
    assert!(!reply.text.contains("RAISE") && !reply.text.contains("trigger"), "{reply:?}");
    assert_eq!(app.database.fingerprint().await, before);
    app.database.execute("DROP TRIGGER refuse ON app.projects").await;
    app.user("acme-owner").data(create).await;
}

#[tokio::test]
async fn a_failed_statement_behind_a_nullable_field_undoes_the_mutation() {
    let app = App::start().await;
    // Reading the audit log fails in PostgreSQL, behind a nullable field.
    app.database
        .execute(
            "CREATE FUNCTION audit.fail() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
             GRANT EXECUTE ON FUNCTION audit.fail TO tenantry_app;
             CREATE POLICY broken ON audit.audit_logs AS RESTRICTIVE FOR SELECT TO tenantry_app USING (audit.fail())",
        )
        .await;
    let before = app.database.fingerprint().await;
    let reply = app
        .user("acme-owner")
        .query("mutation { updateOrganization(input: { name: \"x\" }) { organization { auditLogs { nodes { id } } } } }")
        .await;
    reply.assert_failed("INTERNAL");
    assert!(reply.body["errors"][0]["extensions"]["requestId"].is_string());
    assert!(!reply.text.contains("broken"));
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn a_connection_lost_during_commit_has_an_unknown_outcome() {
    let app = App::start().await;
    // COMMIT waits here until the backend is terminated.
    app.database
        .execute(
            "CREATE FUNCTION app.linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON app.projects DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION app.linger()",
        )
        .await;
    let owner = app.user("acme-owner");
    let creation = tokio::spawn(async move {
        owner.query("mutation { createProject(input: { name: \"x\" }) { project { id } } }").await
    });
    let shot = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE '%COMMIT' AND wait_event = 'PgSleep'";
    while app.database.value::<i64>(shot).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let reply = creation.await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.codes()), (503, vec!["UNAVAILABLE"]), "{reply:?}");
    assert_eq!(reply.body["errors"][0]["extensions"]["outcome"], "UNKNOWN");
    assert_eq!(reply.body.get("data"), Some(&json!(null)));
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_field_sees_what_the_one_before_it_changed() {
    let app = App::start().await;
    let id: String = app
        .database
        .value("SELECT min(p.id::text) FROM app.projects p JOIN app.organizations o ON o.id = organization_id WHERE slug = 'acme'")
        .await;
    let look = format!(
        "updateOrganization(input: {{}}) {{ organization {{ project(id: \"{id}\") {{ name }} }} }}"
    );
    let change = format!(
        "updateProject(input: {{ id: \"{id}\", name: \"changed\" }}) {{ project {{ name }} }}"
    );
    let data = app
        .user("acme-owner")
        .data(&format!("mutation {{ a: {look} b: {change} c: {look} }}"))
        .await;
    assert_ne!(data["a"]["organization"]["project"]["name"], "changed");
    assert_eq!(data["c"]["organization"]["project"]["name"], "changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conflicting_changes_succeed_or_can_be_retried() {
    let app = App::start().await;
    let ids: Vec<String> = app
        .database
        .value("SELECT array_agg(p.id::text) FROM app.projects p JOIN app.organizations o ON o.id = organization_id WHERE slug = 'acme'")
        .await;
    let change = |name: &str, id: &str| {
        format!(
            "{name}: updateProject(input: {{ id: \"{id}\", name: \"n{}\" }}) {{ project {{ id }} }}",
            rand()
        )
    };
    let changes = (0..40).map(|n| {
        let (first, second) = if n % 2 == 0 { (0, 1) } else { (1, 0) };
        let text =
            format!("mutation {{ {} {} }}", change("a", &ids[first]), change("b", &ids[second]));
        let owner = app.user("acme-owner");
        async move { owner.query(&text).await }
    });
    for reply in futures_util::future::join_all(changes).await {
        match reply.status.as_u16() {
            200 => drop(reply.data()),
            503 => {
                reply.assert_refused(503, "UNAVAILABLE");
                assert!(reply.headers.contains_key("retry-after"));
            }
            _ => panic!("{reply:?}"),
        }
    }
}

fn rand() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}

#[tokio::test]
async fn a_field_that_the_client_skips_is_not_executed() {
    let app = App::start().await;
    let before = app.database.fingerprint().await;
    let owner = app.user("acme-owner");
    let skipped = "mutation ($skip: Boolean = true) { createProject(input: { name: \"x\" }) @skip(if: $skip) { project { id } } }";
    assert_eq!(owner.data(skipped).await, json!({}));
    let required =
        "mutation ($name: String!) { createProject(input: { name: $name }) { project { id } } }";
    for variables in [json!({}), json!({ "name": null }), json!({ "name": 7 })] {
        owner
            .query_with(required, variables)
            .await
            .assert_refused(400, "GRAPHQL_VALIDATION_FAILED");
    }
    assert_eq!(app.database.fingerprint().await, before);
}

#[tokio::test]
async fn a_mutation_can_read_what_it_has_changed() {
    let app = App::start().await;
    let document = "mutation {
        before: query { organization { projects { totalCount } } }
        createProject(input: { name: \"Read\" }) { project { name } }
        query { organization { projects(first: 1) { totalCount nodes { name } } entitlements { feature { key } used } } }
    }";
    let data = app.user("acme-owner").query(document).await.data();
    assert_eq!(data["before"]["organization"]["projects"]["totalCount"], 4);
    assert_eq!(
        data["query"]["organization"]["projects"],
        json!({ "totalCount": 5, "nodes": [{ "name": "Read" }] })
    );
    assert_eq!(data["query"]["organization"]["entitlements"][0]["used"], 5);
    // A mutation that must stand alone may still be followed by a query, which acts in the new
    // organization.
    let found = "mutation { createOrganization(input: { name: \"N\", slug: \"nn-1\" }) { organization { id } }
        query { organization { slug viewerRole } } }";
    let data = app.outsider("founder").query(found).await.data();
    assert_eq!(data["query"]["organization"], json!({ "slug": "nn-1", "viewerRole": "OWNER" }));
    // A failure in the query still undoes everything.
    let before = app.database.fingerprint().await;
    let failing = "mutation { createProject(input: { name: \"x\" }) { project { id } } query { viewer { id } }
        deleteProject(input: { id: \"none\" }) { project { id } } }";
    app.user("acme-owner").query(failing).await.assert_failed("NOT_FOUND");
    assert_eq!(app.database.fingerprint().await, before);
}
