//! Verification finds every planted fault and names it.

use super::{ACME, SCHEMA, command, failed, start, succeeded};
use crate::support::database::tenant_tables;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_a_dedicated_schema_is_reported() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    let verify = ["tenant", "verify", "acme"];
    assert_eq!(succeeded(&command(database, &verify).await).lines().count(), tenant_tables().len());
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    assert_eq!(succeeded(&command(database, &verify).await).lines().count(), tenant_tables().len());
    // A move back and there again repairs each of them.
    let structure = [
        (
            format!("DROP POLICY tenantry_app_update ON {SCHEMA}.projects"),
            "projects lacks policy tenantry_app_update",
        ),
        (
            format!("CREATE POLICY more ON {SCHEMA}.projects FOR SELECT TO PUBLIC USING (true)"),
            "projects has policy more",
        ),
        (
            format!("GRANT TRUNCATE ON {SCHEMA}.outbox TO tenantry_app"),
            "outbox has grant of TRUNCATE to tenantry_app",
        ),
        (
            format!("REVOKE DELETE ON {SCHEMA}.projects FROM tenantry_app"),
            "projects lacks grant of DELETE to tenantry_app",
        ),
        (
            format!("DROP INDEX {SCHEMA}.projects_created_by_idx"),
            "projects lacks index USING btree (created_by)",
        ),
        (
            format!("DROP TRIGGER mirror_row ON {SCHEMA}.invitations"),
            "invitations lacks trigger mirror_row",
        ),
        (
            format!("ALTER TABLE {SCHEMA}.usage DISABLE TRIGGER record_change"),
            "usage has trigger CREATE TRIGGER record_change",
        ),
        (
            format!("ALTER TABLE {SCHEMA}.audit_logs NO FORCE ROW LEVEL SECURITY"),
            "audit_logs lacks row-level security enabled and forced",
        ),
        (
            format!("ALTER TABLE {SCHEMA}.projects ALTER name DROP NOT NULL"),
            "projects lacks column name text NOT NULL",
        ),
        (
            format!("ALTER TABLE {SCHEMA}.projects DROP CONSTRAINT single_organization"),
            "projects lacks constraint CHECK ((organization_id =",
        ),
        (
            format!("ALTER TABLE {SCHEMA}.projects DROP CONSTRAINT projects_organization_id_fkey"),
            "projects lacks constraint FOREIGN KEY (organization_id)",
        ),
        (
            format!("REVOKE USAGE ON SCHEMA {SCHEMA} FROM tenantry_app"),
            "lacks grant of USAGE to tenantry_app",
        ),
        (
            format!("ALTER TABLE {SCHEMA}.usage OWNER TO postgres"),
            "usage lacks owner tenantry_owner",
        ),
        (
            format!(
                "ALTER TABLE {SCHEMA}.projects RENAME created_at TO x;
                 ALTER TABLE {SCHEMA}.projects RENAME updated_at TO created_at;
                 ALTER TABLE {SCHEMA}.projects RENAME x TO updated_at"
            ),
            "projects lacks the column order id, organization_id, ",
        ),
    ];
    for (number, (sql, expected)) in structure.iter().enumerate() {
        database.execute(sql).await;
        let output = command(database, &verify).await;
        failed(&output, "fault");
        let faults: Vec<_> =
            output.stdout.lines().filter(|line| line.starts_with("fault: ")).collect();
        assert!(faults.len() > number, "{faults:#?}");
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected}: {faults:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_differ_are_reported() {
    let Some(app) = start().await else { return };
    let database = &app.database;
    succeeded(&command(database, &["tenant", "move", "acme", "--to", "schema"]).await);
    database
        .execute(&format!(
            "UPDATE app.organizations SET name = 'another' WHERE id = '{ACME}';
             DELETE FROM auth.organization_members WHERE organization_id = '{ACME}' AND role = 'viewer';
             INSERT INTO app.outbox (organization_id, kind) VALUES ('{ACME}', 'mail')"
        ))
        .await;
    let output = command(database, &["tenant", "verify", "acme"]).await;
    failed(&output, "acme: 3 faults");
    for table in ["organizations", "organization_members", "outbox"] {
        let expected = format!("fault: {SCHEMA}.{table} has 1 rows that ");
        assert!(output.stdout.contains(&expected), "{}", output.stdout);
    }
    // A move does not switch to a copy that differs.
    let moved = command(database, &["tenant", "move", "acme", "--to", "shared"]).await;
    failed(&moved, "the copy differs in app.organizations, auth.organization_members, app.outbox");
    assert_eq!(super::placement(database).await, "schema");
    app.user("acme-owner")
        .data("mutation { createProject(input: { name: \"x\" }) { project { id } } }")
        .await;
}
