//! Erasure and pruning reach organizations in any placement, and rows that are being copied.

use super::{
    ACME, SCHEMA, assert_verified, command, failed, log_entries, prepared, start, succeeded,
};

const KEPT: &str = "app.placements";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_user_is_erased_in_every_schema() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    let mia = "00000000-0000-4000-8000-0000000000a3";
    app.user("acme-member")
        .data("mutation { createProject(input: { name: \"hers\" }) { project { id } } }")
        .await;
    database.execute(&format!(
        "INSERT INTO {SCHEMA}.invitations (organization_id, email, role, token_hash, expires_at) VALUES ('{ACME}', 'acme-member@example.com', 'member', sha256('x'), now())"
    )).await;
    let output = command(database, &["user", "erase", "acme-member@example.com"]).await;
    assert!(succeeded(&output).contains("acme (member)"), "{}", output.stdout);
    // In its placement, and in its old copy in the shared tables.
    for place in ["audit.audit_logs", &format!("{SCHEMA}.audit_logs")] {
        let named: i64 =
            database.value(&format!("SELECT count(*) FROM {place} WHERE actor_name = 'Mia'")).await;
        let nameless: i64 = database
            .value(&format!(
                "SELECT count(*) FROM {place} WHERE actor_name = '(erased)' AND actor_id = '{mia}'"
            ))
            .await;
        assert!(named == 0 && nameless > 0, "{place}: {named} {nameless}");
    }
    let left: i64 = database
        .value(&format!(
            "SELECT (SELECT count(*) FROM {SCHEMA}.invitations) + (SELECT count(*) FROM auth.invitations)
                  + (SELECT count(*) FROM {SCHEMA}.organization_members WHERE user_id = '{mia}')
                  + (SELECT count(*) FROM {SCHEMA}.projects WHERE created_by = '{mia}')"
        ))
        .await;
    assert_eq!(left, 0);
    let recorded: i64 = database
        .value(&format!(
            "SELECT count(*) FROM {SCHEMA}.audit_logs WHERE actor_name = 'tenantry user erase'"
        ))
        .await;
    assert_eq!(recorded, 1);
    assert_verified(database).await;
    failed(
        &command(database, &["user", "erase", "acme-owner@example.com"]).await,
        "the last owner of acme",
    );
}

/// Foreign keys also change an old copy, and the current rows must not follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_changes_nothing() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    let hired = "INSERT INTO auth.users (id, email, name) VALUES ('00000000-0000-4000-8000-0000000000a9', 'acme-hr@example.com', 'Hana');
         UPDATE auth.organization_members SET invited_by = '00000000-0000-4000-8000-0000000000a9' WHERE role = 'viewer'";
    database.execute(hired).await;
    for to in ["schema", "shared"] {
        succeeded(&command(database, &["tenant", "move", "acme", "--to", to]).await);
    }
    database.execute(&format!("UPDATE auth.organization_members SET role = 'admin' WHERE role = 'viewer' AND organization_id = '{ACME}'")).await;
    succeeded(&command(database, &["user", "erase", "acme-hr@example.com"]).await);
    let roles: String = database
        .value(&format!("SELECT string_agg(role::text, ' ' ORDER BY role) FROM auth.organization_members WHERE organization_id = '{ACME}'"))
        .await;
    assert_eq!(roles, "owner admin admin member");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasure_and_pruning_during_a_move_are_kept() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    log_entries(database, 60_000).await;
    database.execute(&format!("UPDATE audit.audit_logs SET actor_name = 'Mia', actor_id = '00000000-0000-4000-8000-0000000000a3' WHERE organization_id = '{ACME}' AND metadata->>'name' LIKE 'entry %9'")).await;
    for to in ["schema", "shared"] {
        let started = format!(
            "SELECT count(*) FROM {KEPT} WHERE moving_to IS NOT NULL AND old_placement IS NULL"
        );
        let mut child = prepared(database, &["tenant", "move", "acme", "--to", to]);
        child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = child.spawn().unwrap();
        while database.value::<i64>(&started).await == 0 && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        if to == "schema" {
            succeeded(&command(database, &["user", "erase", "acme-member@example.com"]).await);
        } else {
            succeeded(&command(database, &["audit", "prune", "--before", "2026-01-01"]).await);
        }
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap().code());
        assert_eq!(ended.await.unwrap(), Some(0));
        assert_verified(database).await;
        let log = super::table_in_placement(database, "audit.audit_logs").await;
        let named: i64 =
            database.value(&format!("SELECT count(*) FROM {log} WHERE actor_name = 'Mia'")).await;
        assert_eq!(named, 0);
    }
    let old: i64 = database
        .value("SELECT count(*) FROM audit.audit_logs WHERE created_at < '2026-01-01'")
        .await;
    assert_eq!(old, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_entries_are_pruned_in_schemas_and_their_copies() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    database
        .execute(&format!(
            "INSERT INTO audit.audit_logs (organization_id, action, resource_type, created_at)
             SELECT '{ACME}', 'project.created', 'project', '2020-01-01'::timestamptz + n * interval '1 hour' FROM generate_series(1, 10005) n"
        ))
        .await;
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    let output = command(database, &["audit", "prune", "--before", "2022-01-01"]).await;
    assert!(succeeded(&output).contains("deleted 10005 entries"), "{}", output.stdout);
    for place in ["audit.audit_logs", &format!("{SCHEMA}.audit_logs")] {
        let old: i64 = database
            .value(&format!("SELECT count(*) FROM {place} WHERE created_at < '2022-01-01'"))
            .await;
        let recorded: i64 = database.value(&format!("SELECT coalesce(sum((metadata->>'entries')::bigint), 0)::bigint FROM {place} WHERE action = 'audit.pruned'")).await;
        assert_eq!(
            (old, recorded),
            (0, if place.starts_with("org_") { 10_005 } else { 0 }),
            "{place}"
        );
    }
    assert_verified(database).await;
}
