//! One organization is restored from an export, and nothing else changes.

use super::{ACME, command, failed, start, succeeded};
use crate::support::{App, database::Database};

const OTHERS: &str = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (
    SELECT o::text FROM app.organizations o WHERE slug <> 'acme' UNION ALL SELECT p::text FROM app.projects p WHERE organization_id <> '00000000-0000-4000-8000-00000000000a'
    UNION ALL SELECT u::text FROM auth.users u UNION ALL SELECT i::text FROM auth.identities i) t";

/// Returns the checksums of all tables but the audit log.
async fn checksums(database: &Database) -> Vec<String> {
    let output = command(database, &["tenant", "verify", "acme"]).await;
    let lines = succeeded(&output).lines().filter(|line| !line.contains("audit_logs"));
    // Removes the placement from each line.
    lines
        .map(|line| {
            line.split_once('.').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

async fn fill(app: &App) {
    let owner = app.user("acme-owner");
    for mutation in [
        "mutation { inviteMember(input: { email: \"new@example.com\", role: MEMBER }) { invitation { id } } }",
        "mutation { createProject(input: { name: \"\\\"quoted\\\" and ünïcode\", description: \"a\\nb\\\\\" }) { project { id } } }",
        "mutation { updateOrganization(input: { slug: \"acme-2\" }) { organization { id } } }",
        "mutation { updateOrganization(input: { slug: \"acme\" }) { organization { id } } }",
    ] {
        owner.data(mutation).await;
    }
    app.database
        .execute(&format!("INSERT INTO app.outbox (organization_id, kind, payload) VALUES ('{ACME}', 'mail', '{{\"a\": 1.50}}')"))
        .await;
}

async fn delete(app: &App) {
    app.user("acme-owner")
        .data("mutation { deleteOrganization(input: { slug: \"acme\" }) { organization { id } } }")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_is_restored_from_its_export() {
    for in_schema in [false, true] {
        let Some(app) = start().await else { return };
        let database = &app.database;
        fill(&app).await;
        if in_schema {
            succeeded(
                &command(database, &["tenant", "move", "acme", "--to", "schema", "--drop-source"])
                    .await,
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("acme.jsonl");
        let file = file.to_str().unwrap();
        let output = command(database, &["tenant", "export", "acme", file]).await;
        succeeded(&output);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.lines().all(|line| line.starts_with('{')), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no part is left");
        assert!(text.contains("organization.exported") && text.contains("acme-2"), "{text}");
        let printed = command(database, &["tenant", "export", "acme", "-"]).await;
        assert_eq!(
            succeeded(&printed).lines().count(),
            text.lines().count() + 1,
            "the restore adds one entry"
        );
        let (before, others) = (checksums(database).await, database.value::<String>(OTHERS).await);
        failed(
            &command(database, &["tenant", "import", file]).await,
            "the organization acme exists",
        );

        delete(&app).await;
        app.user("acme-owner")
            .query("{ organization { id } }")
            .await
            .assert_refused(404, "NOT_FOUND");
        let deleted = database.fingerprint().await;
        damage(database, &text, folder.path()).await;
        assert_eq!(database.fingerprint().await, deleted);
        let output = command(database, &["tenant", "import", file]).await;
        assert!(succeeded(&output).contains("restored acme"), "{}", output.stdout);
        assert_eq!(checksums(database).await, before);
        assert_eq!(database.value::<String>(OTHERS).await, others);
        let data = app.user("acme-owner").data("{ organization { slug projects { nodes { name } } members { totalCount } auditLogs(first: 100) { nodes { id action } } } }").await;
        let organization = &data["organization"];
        assert_eq!(organization["projects"]["nodes"][0]["name"], "\"quoted\" and ünïcode");
        assert_eq!(organization["members"]["totalCount"], 4);
        // The log continues and has every entry once.
        let nodes = organization["auditLogs"]["nodes"].as_array().unwrap();
        let ids: std::collections::BTreeSet<_> =
            nodes.iter().map(|node| node["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), nodes.len());
        let actions: Vec<_> =
            nodes.iter().take(2).map(|node| node["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["organization.restored", "organization.deleted"]);
        let invited = nodes.iter().filter(|node| node["action"] == "invitation.created").count();
        assert_eq!(invited, 1);
        // A former slug works again.
        app.client(Some("acme-2"), Some(crate::support::app::token("acme-owner")))
            .data("{ organization { slug } }")
            .await;
        // The organization can move as before.
        succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
        super::assert_verified(database).await;
    }
}

/// Asserts that a damaged file is rejected and leaves nothing behind.
async fn damage(database: &Database, text: &str, folder: &std::path::Path) {
    let file = folder.join("damaged.jsonl");
    let lines: Vec<_> = text.lines().collect();
    let without = |number: usize| {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != number);
        kept.flat_map(|(_, line)| [line, "\n"]).collect::<String>()
    };
    let project =
        lines.iter().position(|line| line.contains("\"table\":\"app.projects\"")).unwrap();
    for (damaged, reason) in [
        (String::new(), "the file is not an export"),
        (without(0), "the file is not an export"),
        (without(lines.len() - 1), "the export is not signed"),
        (without(lines.len() - 2), "the export contains an invalid line"),
        (lines[..lines.len() - 2].join("\n"), "the export is incomplete"),
        (without(project), "the signature of the export is not valid"),
        (text.replace("\"tenantry_export\":2", "\"tenantry_export\":1"), "the export has format 1"),
        (
            text.replace(
                &format!("\"organization_id\": \"{ACME}\""),
                "\"organization_id\": \"00000000-0000-4000-8000-0000000000ff\"",
            ),
            "another organization",
        ),
    ] {
        std::fs::write(&file, damaged).unwrap();
        failed(&command(database, &["tenant", "import", file.to_str().unwrap()]).await, reason);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_keeps_what_now_belongs_to_others() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    fill(&app).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.jsonl");
    let file = file.to_str().unwrap();
    succeeded(&command(database, &["tenant", "export", "acme", file]).await);
    delete(&app).await;
    let taken = "UPDATE app.organization_slugs SET organization_id = '00000000-0000-4000-8000-00000000000b', retired_at = NULL WHERE slug = ";
    database.execute(&format!("{taken} 'acme-2'")).await;
    database.execute(&format!("{taken} 'acme'")).await;
    let before = database.fingerprint().await;
    failed(
        &command(database, &["tenant", "import", file]).await,
        "the slug acme is taken by the organization 00000000-0000-4000-8000-00000000000b",
    );
    assert_eq!(database.fingerprint().await, before);
    // A deleted user is restored without an address.
    database
        .execute(&format!(
            "UPDATE app.organization_slugs SET organization_id = '{ACME}', retired_at = now() WHERE slug = 'acme';
             DELETE FROM auth.users WHERE name IN ('Mia', 'Victor');
             INSERT INTO auth.users (email, name) VALUES ('acme-member@example.com', 'Maria')"
        ))
        .await;
    succeeded(&command(database, &["tenant", "import", file]).await);
    let users: String = database
        .value("SELECT string_agg(name || ' ' || coalesce(email, 'none'), ', ' ORDER BY name) FROM auth.users WHERE name IN ('Mia', 'Maria', 'Victor', 'Olivia')")
        .await;
    assert_eq!(
        users,
        "Maria acme-member@example.com, Mia none, Olivia acme-owner@example.com, Victor none"
    );
    let holder: String = database
        .value("SELECT organization_id::text FROM app.organization_slugs WHERE slug = 'acme-2'")
        .await;
    assert!(holder.ends_with('b'));
    super::assert_verified(database).await;
}
