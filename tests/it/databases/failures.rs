//! Failures of one dedicated database do not affect others, and no server guesses.

use std::time::Duration;

use entity::OrganizationId;
use serde_json::json;
use tenantry::tenancy::Extent;

use super::{
    acme_in_eu,
    routing::{NAMES, create, served},
};
use crate::support::{App, AppSettings, app::token, database::Database, placement::GLOBEX};

#[tokio::test]
async fn an_interrupted_move_is_completed_by_the_next_request() {
    let Some((app, eu)) = served().await else { return };
    let owner = app.user("acme-owner");
    let before = owner.data(NAMES).await;
    // Released by the control database and not yet accepted.
    let arrival = "UPDATE app.placements SET placement = 'remote', move_metadata = '{\"to\": \"database:eu\"}'";
    eu.database.execute(arrival).await;
    assert_eq!(owner.data(NAMES).await, before);
    let placements = "SELECT placement || ' ' || generation FROM app.placements";
    assert_eq!(eu.database.exactly::<String>(placements).await, "shared 1");
    let log = owner
        .data("{ organization { auditLogs(first: 1) { nodes { action actorName metadata } } } }")
        .await;
    assert_eq!(
        log["organization"]["auditLogs"]["nodes"][0],
        json!({ "action": "organization.moved", "actorName": "tenantry tenant move", "metadata": { "to": "database:eu" } })
    );
    // Released there and not yet accepted back; all rows are already copied.
    for table in ["app.projects", "billing.usage", "audit.audit_logs"] {
        let rows: Vec<String> = eu
            .database
            .exactly(&format!("SELECT coalesce(array_agg(t::text), '{{}}') FROM {table} t"))
            .await;
        for row in rows {
            let insert =
                format!("INSERT INTO {table} SELECT ('{}'::{table}).*", row.replace('\'', "''"));
            app.database.execute(&insert).await;
        }
    }
    app.database
        .execute("UPDATE app.placements SET moving_to = 'shared', move_metadata = '{\"to\": \"shared\"}'")
        .await;
    eu.database.execute("UPDATE app.placements SET placement = 'remote', generation = 2").await;
    owner.data(&create("Back")).await;
    assert_eq!(app.database.exactly::<String>(placements).await, "shared 2");
    assert_eq!(eu.database.exactly::<String>(placements).await, "remote 2");
    let back = "SELECT count(*) FROM app.projects WHERE name = 'Back'";
    assert_eq!(app.database.exactly::<i64>(back).await, 1);
    // When no database claims an organization, no server guesses.
    let lost =
        "UPDATE app.placements SET placement = 'database:eu', generation = 7, old_placement = NULL";
    app.database.execute(lost).await;
    owner.query(NAMES).await.assert_refused(503, "UNAVAILABLE");
    assert_eq!(eu.database.exactly::<String>(placements).await, "remote 2");
}

#[tokio::test]
async fn requests_to_a_misconfigured_database_are_rejected_and_others_are_not() {
    let Some((app, eu)) = served().await else { return };
    let refused = async |app: &App| {
        app.user("acme-owner").query(NAMES).await.assert_refused(503, "UNAVAILABLE");
        app.user("globex-owner").data(NAMES).await;
    };
    // Privileges for PUBLIC, another name, and a missing migration: each until it is fixed.
    for (break_it, repair) in [
        ("GRANT SELECT ON app.projects TO PUBLIC", "REVOKE SELECT ON app.projects FROM PUBLIC"),
        ("UPDATE app.database SET name = 'us'", "UPDATE app.database SET name = 'eu'"),
        (
            "DELETE FROM migration.seaql_migrations WHERE version = 'app/0001_project'",
            "INSERT INTO migration.seaql_migrations (version, applied_at) VALUES ('app/0001_project', 0)",
        ),
    ] {
        eu.database.execute(break_it).await;
        let settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
        let app = App::on(app.database.clone(), settings).await;
        refused(&app).await;
        assert_eq!(app.service.databases.findings_of_databases(Extent::Complete).await.len(), 1);
        eu.database.execute(repair).await;
        // The result of a check is cached for a second.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        app.user("acme-owner").data(NAMES).await;
    }
    // A database that does not exist.
    let mut gone = eu.clone();
    gone.database.name = "nowhere".to_owned();
    let settings = AppSettings { dedicated: vec![gone], ..AppSettings::default() };
    refused(&App::on(app.database.clone(), settings).await).await;
    // A server without this database in its settings.
    let other = App::on(app.database.clone(), AppSettings::default()).await;
    refused(&other).await;
    assert!(other.service.databases.findings_of_databases(Extent::Complete).await.is_empty());
}

#[tokio::test]
async fn an_unavailable_database_is_not_contacted_for_organizations_elsewhere() {
    let Some((app, eu)) = served().await else { return };
    let owner = app.user("acme-owner");
    owner.data(NAMES).await;
    // The organization moved away while this server had the old placement cached, and its database
    // no longer exists.
    let back = "UPDATE app.placements SET placement = 'shared', generation = 2";
    app.database.execute(back).await;
    let gone = format!(
        "ALTER DATABASE {0} ALLOW_CONNECTIONS false; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}'",
        eu.database.name
    );
    app.database.execute(&gone).await;
    assert_eq!(owner.data(NAMES).await["organization"]["slug"], "acme");
    // An outsider learns nothing, and a member gets an error to retry.
    app.database.execute("UPDATE app.placements SET placement = 'database:eu'").await;
    owner.query(NAMES).await.assert_refused(503, "UNAVAILABLE");
    app.client(Some("acme"), Some(token("globex-owner")))
        .query(NAMES)
        .await
        .assert_refused(404, "NOT_FOUND");
}

/// SQL for another database.
fn allow_connections(database: &Database, allowed: bool) -> String {
    format!(
        "ALTER DATABASE {0} ALLOW_CONNECTIONS {allowed};
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}'",
        database.name
    )
}

#[tokio::test]
async fn calls_are_leased_and_returned_without_the_control_database() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    control.move_to(GLOBEX.parse().unwrap(), &eu).await;
    // The first lease is of three calls, the next of two.
    let limit = "UPDATE billing.plan_features SET limit_value = 48
        WHERE plan = 'free' AND feature = 'api_calls_per_month'";
    eu.database.execute(limit).await;
    let settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
    let app = App::on(control, settings).await;
    let owner = app.user("globex-owner");
    owner.data(NAMES).await;
    eu.database.execute(&allow_connections(&app.database, false)).await;
    for _ in 0..3 {
        owner.data(NAMES).await;
    }
    app.service.meter.give_back().await;
    let used = "SELECT used FROM billing.usage";
    assert_eq!(eu.database.exactly::<i64>(used).await, 4);
    eu.database.execute(&allow_connections(&app.database, true)).await;
}

#[tokio::test]
async fn a_database_that_fails_once_is_remembered() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    control.move_to(GLOBEX.parse().unwrap(), &eu).await;
    let settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
    let app = App::on(control, settings).await;
    app.user("globex-owner").data(NAMES).await;
    let globex = OrganizationId(GLOBEX.parse().unwrap());
    assert!(app.service.databases.is_in_dedicated_database(globex));
    app.database.execute(&allow_connections(&eu.database, false)).await;
    app.service.meter.give_back().await;
    assert!(app.service.databases.is_in_dedicated_database(globex));
    app.database.execute(&allow_connections(&eu.database, true)).await;
}

#[tokio::test]
async fn the_control_database_never_serves_an_organization_of_another_database() {
    let Some((control, _eu)) = acme_in_eu().await else { return };
    let connection = control.connect_app().await;
    for (access, outcome) in [("READ ONLY", "OTHER_PLACEMENT"), ("READ WRITE", "OK")] {
        connection.batch(&format!("BEGIN {access}")).await.unwrap();
        let open = control.proven("acme-owner", "acme", 0).await;
        let opened: String = connection
            .query_one(&format!("SELECT outcome FROM auth.open_request({open})"), &[])
            .await
            .unwrap();
        assert_eq!(opened, outcome);
        connection.batch("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_change_of_one_organization_does_not_stop_directory_sync() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    control.move_to(GLOBEX.parse().unwrap(), &eu).await;
    // A user unknown to the control database: rows that refer to them cannot be copied.
    let outsider = "INSERT INTO auth.users (id, name) VALUES ('00000000-0000-4000-8000-0000000000ff', 'Unknown');
        INSERT INTO auth.organization_members (organization_id, user_id, role)
            VALUES ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-0000000000ff', 'viewer')";
    eu.database.execute(outsider).await;
    // The row that frees the key was changed after the row that needs it.
    let invitations = "INSERT INTO auth.invitations (organization_id, id, email, role, token_hash, invited_by, expires_at, revoked_at)
        SELECT '00000000-0000-4000-8000-00000000000b', gen_random_uuid(), 'new@example.com', 'viewer', sha256(n::text::bytea), NULL, now() + interval '1 day', revoked
        FROM (VALUES (1, NULL::timestamptz)) v (n, revoked)";
    eu.database.execute(invitations).await;
    let settings = AppSettings { dedicated: vec![eu.clone()], ..AppSettings::default() };
    let app = App::on(control, settings).await;
    let named = |name: &str| {
        format!(
            "mutation {{ updateOrganization(input: {{ name: \"{name}\" }}) {{ organization {{ name }} }} }}"
        )
    };
    app.user("globex-owner").data(&named("First")).await;
    let open = "SELECT count(*) FROM auth.invitations WHERE organization_id = '00000000-0000-4000-8000-00000000000b' AND revoked_at IS NULL";
    assert_eq!(app.database.exactly::<i64>(open).await, 1);
    let again = "BEGIN; UPDATE auth.invitations SET revoked_at = now();
        INSERT INTO auth.invitations (organization_id, id, email, role, token_hash, expires_at)
            VALUES ('00000000-0000-4000-8000-00000000000b', gen_random_uuid(), 'new@example.com', 'admin', sha256('2'), now() + interval '1 day');
        UPDATE auth.invitations SET rotation = rotation + 1 WHERE revoked_at IS NOT NULL; COMMIT";
    eu.database.execute(again).await;
    app.user("globex-owner").data(&named("Second")).await;
    assert_eq!(app.database.exactly::<i64>(open).await, 1);
    let stuck = "SELECT count(DISTINCT organization_id) FROM app.directory_changes";
    assert_eq!(eu.database.exactly::<i64>(stuck).await, 1, "a change that fails stays pending");
    eu.database.execute("DELETE FROM auth.users WHERE name = 'Unknown'").await;
    app.user("globex-owner").data(&named("And again")).await;
    assert_eq!(eu.database.exactly::<i64>(stuck).await, 0);
}

#[tokio::test]
#[ignore = "waits for more than a minute"]
async fn connections_are_opened_on_demand_and_closed_when_idle() {
    let Some((app, eu)) = served().await else { return };
    let open = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'tenantry'",
        eu.database.name
    );
    app.user("globex-owner").data(NAMES).await;
    assert_eq!(app.database.exactly::<i64>(&open).await, 0);
    let owner = app.user("acme-owner");
    futures_util::future::join_all((0..8).map(|_| owner.data(NAMES))).await;
    let most = app.database.exactly::<i64>(&open).await;
    assert!((1..=4).contains(&most), "{most}");
    tokio::time::sleep(Duration::from_secs(80)).await;
    assert_eq!(app.database.exactly::<i64>(&open).await, 0);
    owner.data(NAMES).await;
}
