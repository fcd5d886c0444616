//! Verification: differences are detected before anything depends on them.

use super::{
    assert_verified, command, interrupted::COPYING, kill, placements, rows_of_acme, run_move,
    serving_database, spawn, start, succeeded,
};
use crate::{
    support::{database::tenant_tables, placement::ACME},
    tenant::{failed, log_entries, wait_until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_does_not_switch_to_a_copy_that_differs() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 60_000).await;
    let before = rows_of_acme(database).await;
    let oldest = format!(
        "SELECT l.id FROM audit.audit_logs l WHERE l.organization_id = '{ACME}' ORDER BY l.created_at, l.id LIMIT 1"
    );
    let spoils = [
        format!("UPDATE audit.audit_logs SET actor_name = 'Other' WHERE id = ({oldest})"),
        format!("DELETE FROM audit.audit_logs WHERE id = ({oldest})"),
        "UPDATE auth.organization_members SET role = 'admin' WHERE role = 'viewer'".to_owned(),
    ];
    for (to, stays) in [("database:eu", "shared"), ("shared", "database:eu")] {
        for spoil in &spoils {
            let child = spawn(database, &eu, to);
            wait_until(database, COPYING).await;
            let target = if to == "shared" { database } else { &eu.database };
            let copied =
                format!("SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}'");
            wait_until(target, &copied).await;
            kill(child);
            assert_eq!(
                target
                    .exactly::<i64>(
                        "SELECT count(*) FROM app.placements WHERE placement = 'shared'"
                    )
                    .await,
                0
            );
            target
                .execute(&format!(
                    "SET app.replicating = 'on'; {spoil} AND organization_id = '{ACME}'"
                ))
                .await;
            let output = command(database, &eu, &["tenant", "move", "acme", "--to", to]).await;
            failed(&output, "the copy differs in");
            assert_eq!(output.stdout.matches("DIFFERS").count(), 1, "{}", output.stdout);
            let placement = serving_database(database, &eu).await;
            assert_eq!(placement.name == database.name, stays == "shared");
            if spoil.contains("members") && to == "shared" {
                target.execute(&format!("SET app.replicating = 'on'; UPDATE auth.organization_members SET role = 'viewer' WHERE role = 'admin' AND organization_id = '{ACME}' AND user_id = (SELECT user_id FROM auth.identities WHERE subject = 'acme-viewer')")).await;
            }
            run_move(database, &eu, stays).await;
            assert_eq!(rows_of_acme(&serving_database(database, &eu).await).await, before);
            assert_verified(database, &eu).await;
        }
        run_move(database, &eu, "database:eu").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_an_organization_in_a_dedicated_database_is_reported() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    run_move(database, &eu, "database:eu").await;
    let verify = ["tenant", "verify", "acme"];
    let output = command(database, &eu, &verify).await;
    assert_eq!(succeeded(&output).lines().count(), tenant_tables().len());
    let faults = [
        (
            database,
            "UPDATE app.organizations SET name = 'other' WHERE slug = 'acme'",
            "app.organizations has rows that are missing or different in the directory",
        ),
        (
            database,
            "DELETE FROM auth.organization_members m USING auth.identities i WHERE i.user_id = m.user_id AND i.subject = 'acme-viewer'",
            "auth.organization_members has rows that are missing or different in the directory",
        ),
        (
            &eu.database,
            "UPDATE app.organization_slugs SET retired_at = now()",
            "app.organization_slugs has slugs that are missing or different in the control database",
        ),
        (
            &eu.database,
            "UPDATE auth.users SET name = 'other' WHERE name = 'Olivia'",
            "auth.users has 1 members that differ",
        ),
    ];
    for (number, (broken, sql, fault)) in faults.into_iter().enumerate() {
        broken.execute(&format!("SET app.replicating = 'on'; {sql}")).await;
        let output = command(database, &eu, &verify).await;
        failed(&output, &format!("acme: {} fault", number + 1));
        assert!(output.stdout.contains(fault), "{}", output.stdout);
    }
    assert_eq!(placements(database, &eu).await.1, "shared 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_directory_changes_are_no_fault() {
    let Some((app, eu)) = start().await else { return };
    let (database, there) = (app.database.clone(), &eu.database);
    run_move(&database, &eu, "database:eu").await;
    // No server applies the pending changes.
    drop(app);
    there.execute("UPDATE app.organizations SET name = 'other' WHERE slug = 'acme'; DELETE FROM auth.invitations").await;
    let output = command(&database, &eu, &["tenant", "verify", "acme"]).await;
    let on_their_way: i64 = there.exactly("SELECT count(*) FROM app.directory_changes").await;
    if on_their_way > 0 {
        assert!(
            succeeded(&output).contains("changes are waiting for directory sync"),
            "{}",
            output.stdout
        );
    }
    // The move applies the pending changes.
    let before = rows_of_acme(there).await;
    run_move(&database, &eu, "shared").await;
    assert_eq!(rows_of_acme(&database).await, before);
    let left: i64 = there.exactly("SELECT count(*) FROM app.directory_changes").await;
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_deleted_in_a_dedicated_database_is_restored_from_its_export() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    run_move(database, &eu, "database:eu").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.jsonl");
    let file = file.to_str().unwrap();
    succeeded(&command(database, &eu, &["tenant", "export", "acme", file]).await);
    let before = rows_of_acme(&eu.database).await;
    app.user("acme-owner")
        .data("mutation { deleteOrganization(input: { slug: \"acme\" }) { organization { id } } }")
        .await;
    wait_until(database, "SELECT count(*) FROM app.organization_slugs WHERE slug = 'acme' AND retired_at IS NOT NULL").await;
    failed(&command(database, &eu, &["tenant", "import", file]).await, "--to shared` first");
    succeeded(&command(database, &eu, &["tenant", "move", ACME, "--to", "shared"]).await);
    succeeded(&command(database, &eu, &["tenant", "import", file]).await);
    for ((table, before), (_, after)) in before.iter().zip(rows_of_acme(database).await) {
        if *table != "audit.audit_logs" && *table != "billing.usage" {
            assert_eq!(&after, before, "{table}");
        }
    }
    assert_verified(database, &eu).await;
}
