//! What is not as it should be is found before anything depends on it.

use super::{
    command, contents, done, go, interrupted::BRINGS, kill, lives, placements, spawn, start,
    verified,
};
use crate::{
    support::placement::ACME,
    tenant::{log_entries, refused, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_switched_to_a_copy_that_differs() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    log_entries(database, 60_000).await;
    let before = contents(database).await;
    let spoils = [
        "UPDATE app.projects SET name = 'Rocket boots' WHERE name = 'Rocket skates'",
        "DELETE FROM app.projects WHERE id = (SELECT p.id FROM app.projects p WHERE p.organization_id = '00000000-0000-4000-8000-00000000000a' ORDER BY p.id LIMIT 1)",
    ];
    for (to, stays, spoils) in [
        (
            "database:eu",
            "shared",
            [
                spoils[0],
                spoils[1],
                "UPDATE auth.organization_members SET role = 'admin' WHERE role = 'viewer'",
            ],
        ),
        (
            "shared",
            "database:eu",
            [
                spoils[0],
                spoils[1],
                "UPDATE auth.organization_members SET role = 'admin' WHERE role = 'viewer'",
            ],
        ),
    ] {
        for spoil in spoils {
            let child = spawn(database, &eu, to);
            until(database, BRINGS).await;
            let target = if to == "shared" { database } else { &eu.database };
            let copied =
                format!("SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}'");
            until(target, &copied).await;
            kill(child);
            assert_eq!(
                target
                    .exactly::<i64>("SELECT count(*) FROM app.placements WHERE home = 'shared'")
                    .await,
                0
            );
            target
                .execute(&format!("SET app.copying = 'on'; {spoil} AND organization_id = '{ACME}'"))
                .await;
            let output = command(database, &eu, &["tenant", "move", "acme", "--to", to]).await;
            refused(&output, "the copy differs in");
            assert_eq!(output.stdout.matches("DIFFERS").count(), 1, "{}", output.stdout);
            let home = lives(database, &eu).await;
            assert_eq!(home.name == database.name, stays == "shared");
            if spoil.contains("members") && to == "shared" {
                target.execute(&format!("SET app.copying = 'on'; UPDATE auth.organization_members SET role = 'viewer' WHERE role = 'admin' AND organization_id = '{ACME}' AND user_id = (SELECT user_id FROM auth.identities WHERE subject = 'acme-viewer')")).await;
            }
            go(database, &eu, stays).await;
            assert_eq!(contents(&lives(database, &eu).await).await, before);
            verified(database, &eu).await;
        }
        go(database, &eu, "database:eu").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_an_organization_in_a_database_is_told() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    go(database, &eu, "database:eu").await;
    let verify = ["tenant", "verify", "acme"];
    assert_eq!(done(&command(database, &eu, &verify).await).lines().count(), 8);
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
    for (number, (broken, sql, told)) in faults.into_iter().enumerate() {
        broken.execute(&format!("SET app.copying = 'on'; {sql}")).await;
        let output = command(database, &eu, &verify).await;
        refused(&output, &format!("acme: {} faults", number + 1));
        assert!(output.stdout.contains(told), "{}", output.stdout);
    }
    assert_eq!(placements(database, &eu).await.1, "shared 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_to_the_directory_is_no_fault() {
    let Some((app, eu)) = start().await else { return };
    let (database, there) = (app.database.clone(), &eu.database);
    go(&database, &eu, "database:eu").await;
    // Nobody brings it.
    drop(app);
    there.execute("UPDATE app.organizations SET name = 'other' WHERE slug = 'acme'; DELETE FROM auth.invitations").await;
    let output = command(&database, &eu, &["tenant", "verify", "acme"]).await;
    let on_their_way: i64 = there.exactly("SELECT count(*) FROM app.directory_changes").await;
    if on_their_way > 0 {
        assert!(
            done(&output).contains("changes are waiting for directory sync"),
            "{}",
            output.stdout
        );
    }
    // The move brings it.
    let before = contents(there).await;
    go(&database, &eu, "shared").await;
    assert_eq!(contents(&database).await, before);
    let left: i64 = there.exactly("SELECT count(*) FROM app.directory_changes").await;
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_in_a_database_is_brought_back_from_its_export() {
    let Some((app, eu)) = start().await else { return };
    let database = &app.database;
    go(database, &eu, "database:eu").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.jsonl");
    let file = file.to_str().unwrap();
    done(&command(database, &eu, &["tenant", "export", "acme", file]).await);
    let before = contents(&eu.database).await;
    app.person("acme-owner")
        .data("mutation { deleteOrganization(input: { slug: \"acme\" }) { organization { id } } }")
        .await;
    until(database, "SELECT count(*) FROM app.organization_slugs WHERE slug = 'acme' AND retired_at IS NOT NULL").await;
    refused(&command(database, &eu, &["tenant", "import", file]).await, "--to shared` first");
    done(&command(database, &eu, &["tenant", "move", ACME, "--to", "shared"]).await);
    done(&command(database, &eu, &["tenant", "import", file]).await);
    for ((table, before), (_, after)) in before.iter().zip(contents(database).await) {
        if *table != "audit.audit_logs" && *table != "billing.usage" {
            assert_eq!(&after, before, "{table}");
        }
    }
    verified(database, &eu).await;
}
