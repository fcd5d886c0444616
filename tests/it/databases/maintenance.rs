//! Maintenance of plans, users and audit logs in dedicated databases.

use std::time::Duration;

use entity::OrganizationId;
use tokio::time::timeout;

use super::{acme, acme_in_eu, command, failed, missing, routing::served, succeeded};
use crate::support::{database::Database, placement::ACME};

const OLIVIA: &str = "00000000-0000-4000-8000-0000000000a1";
const MIA: &str = "00000000-0000-4000-8000-0000000000a3";

async fn limit(database: &Database) -> Option<i64> {
    let sql =
        "SELECT limit_value FROM billing.plan_features WHERE plan = 'pro' AND feature = 'projects'";
    database.exactly(sql).await
}

#[tokio::test]
async fn plans_are_the_same_in_every_database() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let gone = missing("gone", &control);
    succeeded(&command(&control, &[&eu], &["plan", "set", "pro", "projects", "41"]).await);
    assert_eq!((limit(&control).await, limit(&eu.database).await), (Some(41), Some(41)));
    succeeded(&command(&control, &[&eu], &["plan", "price", "pro", "price_1"]).await);
    succeeded(&command(&control, &[&eu], &["plan", "price", "pro", "price_2"]).await);
    let prices =
        "SELECT string_agg(stripe_price_id || ' ' || for_sale, ', ' ORDER BY stripe_price_id)
        FROM billing.plan_prices WHERE plan = 'pro'";
    assert_eq!(eu.database.exactly::<String>(prices).await, "price_1 false, price_2 true");

    // An unavailable database does not stop the others, and the same command updates it later.
    let set = ["plan", "set", "pro", "projects", "42"];
    let output = command(&control, &[&gone, &eu], &set).await;
    let output_text = failed(
        &output,
        "but not in the databases gone. Run the command again, or `tenantry migrate`.",
    );
    assert!(output_text.contains("failed: the database gone: "), "{output_text}");
    assert_eq!((limit(&control).await, limit(&eu.database).await), (Some(42), Some(42)));
    eu.database.execute("UPDATE billing.plan_features SET limit_value = 1").await;
    succeeded(&command(&control, &[&eu], &set).await);
    assert_eq!(limit(&eu.database).await, Some(42));

    let output = command(&control, &[], &set).await;
    let warning = "warning: the database eu is not in MIGRATION_DATABASES";
    assert!(succeeded(&output).contains(warning), "{}", output.stdout);
    let output = command(&eu.database, &[], &set).await;
    failed(&output, "points to the dedicated database eu");
    assert!(!succeeded(&command(&control, &[&gone], &["plan", "list"]).await).contains("failed"));
}

#[tokio::test]
async fn subscribers_learn_of_plans_that_migrate_copies() {
    let Some((app, eu)) = served().await else { return };
    let changes = app.service.databases.change_feed().subscribe(OrganizationId(acme())).await;
    let mut changes = changes.unwrap();
    eu.database.execute("UPDATE billing.plan_features SET limit_value = 1").await;
    succeeded(&command(&app.database, &[&eu], &["migrate"]).await);
    let change = timeout(Duration::from_mins(1), changes.next()).await.expect("an event");
    assert_eq!(change.unwrap().topic, "entitlements");
}

/// Returns all traces of the user Mia with these addresses.
async fn traces(database: &Database) -> String {
    let sql = "SELECT concat((SELECT string_agg(t::text, '') FROM audit.audit_logs t), (SELECT string_agg(t::text, '') FROM auth.users t),
                             (SELECT string_agg(t::text, '') FROM auth.invitations t), (SELECT string_agg(t::text, '') FROM auth.identities t))";
    let all: String = database.exactly(sql).await;
    let all = all.to_lowercase();
    ["mia", "acme-member", "before@example.com"]
        .into_iter()
        .filter(|word| all.contains(word))
        .collect()
}

/// Leaves traces of Mia under another address. Only the log in eu knows that it was hers.
async fn mia_in_eu(control: &Database, eu: &Database) {
    let entries = format!(
        "INSERT INTO audit.audit_logs (organization_id, actor_id, actor_name, action, resource_type, metadata) VALUES
         ('{ACME}', '{MIA}', 'Mia', 'invitation.accepted', 'invitation', '{{\"email\": \"before@example.com\"}}'),
         ('{ACME}', '{OLIVIA}', 'Olivia', 'member.role_changed', 'member', '{{\"user_id\": \"{MIA}\", \"name\": \"Mia\"}}')"
    );
    eu.execute(&entries).await;
    let elsewhere = "INSERT INTO audit.audit_logs (organization_id, actor_name, action, resource_type, metadata)
         SELECT id, 'Omar', 'invitation.created', 'invitation', '{\"email\": \"before@example.com\"}' FROM app.organizations WHERE slug = 'globex'";
    control.execute(elsewhere).await;
}

#[tokio::test]
async fn an_erased_user_is_erased_in_every_database() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    mia_in_eu(&control, &eu.database).await;
    assert_eq!(traces(&eu.database).await, "miaacme-memberbefore@example.com");
    let erase = ["user", "erase", "acme-member@example.com"];
    let output = command(&control, &[&eu], &erase).await;
    let output_text = succeeded(&output);
    assert!(
        output_text.contains("memberships ended: 1") && output_text.contains("acme (member)"),
        "{output_text}"
    );
    assert_eq!(
        (traces(&control).await, traces(&eu.database).await),
        (String::new(), String::new())
    );
    let removed = format!(
        "SELECT count(*) FROM audit.audit_logs WHERE action = 'member.removed' AND organization_id = '{ACME}'"
    );
    assert_eq!(eu.database.exactly::<i64>(&removed).await, 1);
    assert_eq!(control.exactly::<i64>(&removed).await, 0, "no server would read it there");
    let noted =
        "SELECT count(*) FROM app.directory_changes WHERE table_name = 'organization_members'";
    assert_eq!(eu.database.exactly::<i64>(noted).await, 1);
    failed(&command(&control, &[&eu], &erase).await, "there is no user");
}

#[tokio::test]
async fn a_user_who_cannot_be_erased_everywhere_is_erased_nowhere() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    mia_in_eu(&control, &eu.database).await;
    let gone = missing("gone", &control);
    let before = (control.fingerprint().await, eu.database.fingerprint().await);
    let erase = ["user", "erase", "acme-member@example.com"];
    let output = command(&control, &[], &erase).await;
    failed(&output, "the database eu is not in MIGRATION_DATABASES");
    failed(&command(&control, &[&eu, &gone], &erase).await, "the database gone: ");
    // Only the database of acme knows whether it has another owner.
    let owner = ["user", "erase", "acme-owner@example.com"];
    control
        .execute("UPDATE auth.organization_members SET role = 'owner' WHERE user_id = '00000000-0000-4000-8000-0000000000a2'")
        .await;
    let directory = control.fingerprint().await;
    failed(&command(&control, &[&eu], &owner).await, "is the last owner of acme");
    // During a move, the organization has left one database and has not arrived in the other.
    for change in ["generation = 2", "placement = 'remote'"] {
        let back = "UPDATE app.placements SET generation = 1, placement = 'shared'";
        eu.database.execute(&format!("UPDATE app.placements SET {change}")).await;
        failed(&command(&control, &[&eu], &erase).await, "is moving between databases");
        eu.database.execute(back).await;
    }
    assert_eq!(control.fingerprint().await, directory);
    control
        .execute("UPDATE auth.organization_members SET role = 'admin' WHERE user_id = '00000000-0000-4000-8000-0000000000a2'")
        .await;
    let same = |before: &[(String, String)], after: &[(String, String)]| {
        let touched = ["auth.organization_members", "app.placements"];
        let changed: Vec<_> =
            before.iter().zip(after).filter(|(one, other)| one != other).collect();
        changed.iter().all(|((table, _), _)| touched.contains(&table.as_str()))
    };
    assert!(same(&before.0, &control.fingerprint().await));
    assert!(same(&before.1, &eu.database.fingerprint().await));
}

#[tokio::test]
async fn an_interrupted_erasure_is_completed_by_a_retry() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    // As if the process had ended between the two commits.
    eu.database.execute(&format!("DELETE FROM auth.users WHERE id = '{MIA}'")).await;
    succeeded(&command(&control, &[&eu], &["user", "erase", MIA]).await);
    assert_eq!(
        (traces(&control).await, traces(&eu.database).await),
        (String::new(), String::new())
    );
}

#[tokio::test]
async fn a_user_is_also_erased_where_only_traces_remain() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let entry = format!(
        "INSERT INTO audit.audit_logs (organization_id, actor_id, actor_name, action, resource_type)
         VALUES ('{ACME}', '00000000-0000-4000-8000-0000000000b3', 'Max', 'project.created', 'project')"
    );
    eu.database.execute(&entry).await;
    let output = command(&control, &[&eu], &["user", "erase", "globex-member@example.com"]).await;
    assert!(succeeded(&output).contains("globex (member)"), "{}", output.stdout);
    let left = "SELECT count(*) FROM audit.audit_logs WHERE actor_name = 'Max'";
    assert_eq!(
        (control.exactly::<i64>(left).await, eu.database.exactly::<i64>(left).await),
        (0, 0)
    );
    let removed = "SELECT count(*) FROM audit.audit_logs WHERE action = 'member.removed'";
    assert_eq!(control.exactly::<i64>(removed).await, 1);
}

#[tokio::test]
async fn the_logs_are_partitioned_and_pruned_in_every_database() {
    let Some((control, eu)) = acme_in_eu().await else { return };
    let old = "INSERT INTO audit.audit_logs (organization_id, action, resource_type, created_at)
         SELECT id, 'project.created', 'project', '2020-01-01T00:00:00Z' FROM app.organizations";
    control.execute(old).await;
    eu.database.execute(old).await;
    // This is an old copy of an entry of globex.
    let copy = "INSERT INTO audit.audit_logs (organization_id, action, resource_type, created_at)
         VALUES ('00000000-0000-4000-8000-00000000000b', 'project.created', 'project', '2020-01-01T00:00:00Z')";
    eu.database.execute(copy).await;
    let gone = missing("gone", &control);
    let last = "DO $$ BEGIN EXECUTE 'DROP TABLE ' || (SELECT name FROM audit.partitions() ORDER BY upper_bound DESC NULLS LAST LIMIT 1); END $$";
    eu.database.execute(last).await;
    let output = command(&control, &[&gone, &eu], &["audit", "partition"]).await;
    let output_text = failed(&output, "the command failed in the databases gone");
    assert!(output_text.contains("All partitions exist."), "{output_text}");
    let created = output_text.lines().any(|line| {
        line.starts_with("created audit.audit_logs_2") && line.ends_with(" in the database eu")
    });
    assert!(created, "{output_text}");
    succeeded(&command(&control, &[&eu], &["audit", "partition"]).await);

    let prune = ["audit", "prune", "--before", "2021-01-01"];
    let output = command(&control, &[&gone, &eu], &prune).await;
    let output_text = failed(&output, "the command failed in the databases gone");
    // Acme lives in eu, so its old entries in the control database are a copy.
    assert!(output_text.contains("deleted 1 entries before 2021-01-01\n"), "{output_text}");
    assert!(
        output_text.contains("deleted 1 entries before 2021-01-01 in the database eu"),
        "{output_text}"
    );
    let logs = "SELECT array_agg(o || ' ' || n ORDER BY o) FROM (
                    SELECT right(organization_id::text, 1) o, count(*) n FROM audit.audit_logs WHERE action = 'audit.pruned' GROUP BY 1) t";
    assert_eq!(control.exactly::<Vec<String>>(logs).await, ["b 1"]);
    assert_eq!(eu.database.exactly::<Vec<String>>(logs).await, ["a 1"]);
    for database in [&control, &eu.database] {
        let left = "SELECT count(*) FROM audit.audit_logs WHERE created_at < '2021-01-01Z'";
        assert_eq!(database.exactly::<i64>(left).await, 0);
    }
}
