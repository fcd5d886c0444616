//! A step of a product that is built on tenantry: a new table of organizations, declared once, and
//! a changed one. Both arrive wherever organizations live, and move and are exported with them. The
//! names are such as no product has.

use migration::{
    Change,
    OnDelete::{Cascade, SetNull},
    Passwords, Reference, Run, STEPS, Step, Table, migrate_with,
    placement::SCHEMA_VERSION,
};
use pg::Listener;

use super::{LATER, catalogue::compare_schemas, create_schemas, organization, schema};
use crate::{
    databases::command,
    support::{
        database::Database,
        dedicated::DedicatedDatabase,
        placement::{ACME, all_are_shared},
        process::succeeded,
        sessions::act,
    },
};

const TASKS: Table = Table {
    name: "app.later_tasks",
    resource: "later_task",
    columns: "
    project_id uuid NOT NULL,
    assignee   uuid,
    title      text NOT NULL CHECK (length(title) > 0),
    priority   app.later_priority NOT NULL DEFAULT 'low'",
    references: &[
        Reference::tenant("project_id", "projects", Cascade),
        Reference::tenant("assignee", "organization_members", SetNull),
    ],
    ..Table::RESOURCE
};

const LABELS: Table = Table {
    name: "app.later_labels",
    key: "organization_id, project_id, label",
    resource: "later_label",
    columns: "
    project_id uuid NOT NULL,
    label      text NOT NULL",
    references: &[Reference::tenant("project_id", "projects", Cascade)],
    ..Table::KEYED
};

const TASK: Step = Step {
    name: "app/9001_task",
    changes: || {
        vec![
            Change::once("CREATE TYPE app.later_priority AS ENUM ('low', 'high')"),
            Change::Table(TASKS),
            Change::Table(LABELS),
            Change::each(
                "ALTER TABLE projects ADD COLUMN later_priority app.later_priority;
                 UPDATE projects SET later_priority = 'high';
                 ALTER TABLE projects ALTER later_priority SET DEFAULT 'low',
                    ALTER later_priority SET NOT NULL",
            ),
        ]
    },
};

/// Migrates to these steps, after all that exist.
async fn migrate_to(database: &Database, steps: &[Step]) {
    let run = Run { steps: [&STEPS[..], steps].concat(), ..Run::default() };
    let report = migrate_with(database.admin(), Passwords::default(), &run).await.unwrap();
    assert_eq!((report.applied.len(), report.schemas.failed), (1, vec![]));
}

/// Lets the program, which knows no such step, use the database.
async fn forget_step(database: &Database) {
    database
        .execute(&format!(
            "DELETE FROM migration.seaql_migrations WHERE version = '{}';
             UPDATE app.placements SET version = '{}' WHERE version IS NOT NULL",
            TASK.name, *SCHEMA_VERSION
        ))
        .await;
}

const MEMBER: &str = "(SELECT id FROM auth.organization_members m
    WHERE m.organization_id = p.organization_id AND m.role = 'viewer')";

/// Adds a task to each project of an organization, in the schema in which it lives.
fn add_tasks(schema: &str, members: &str) -> String {
    format!(
        "INSERT INTO {schema}.later_tasks (organization_id, project_id, assignee, title)
         SELECT organization_id, id, {members}, 'Do ' || name FROM {schema}.projects p;"
    )
}

async fn tasks(database: &Database, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT coalesce(array_agg(title ORDER BY title), '{{}}') FROM {table} WHERE organization_id = '{ACME}'"
    );
    database.exactly(&sql).await
}

#[tokio::test]
async fn a_declared_table_arrives_in_existing_schemas_and_in_new_ones() {
    let database = Database::empty().await;
    migrate_with(database.admin(), Passwords::default(), &Run::default()).await.unwrap();
    create_schemas(&database, [organization(1)].into_iter()).await;
    let own = schema(1);
    database
        .execute(&format!(
            "INSERT INTO {own}.organizations (id, name, slug) VALUES ('{0}', 'x', 'xx');
             INSERT INTO {own}.projects (organization_id, name) VALUES ('{0}', 'x')",
            organization(1)
        ))
        .await;
    // The steps of two sources, as after a later update of tenantry.
    migrate_to(&database, &[TASK]).await;
    migrate_to(&database, &[LATER, TASK]).await;
    create_schemas(&database, [organization(2)].into_iter()).await;
    compare_schemas(&database, "migrated by a step of a product").await;
    let version =
        format!("SELECT version FROM app.placements WHERE organization_id = '{}'", organization(1));
    assert_eq!(database.exactly::<String>(&version).await, "app/9001_task core/9000_archive");
    let changed = format!("SELECT later_priority::text FROM {own}.projects");
    assert_eq!(database.exactly::<String>(&changed).await, "high");
    // The index of a reference reads the pages of each project's tasks.
    let index = format!(
        "SELECT count(*) FROM pg_indexes WHERE schemaname = '{own}' AND tablename = 'later_tasks'
             AND indexdef LIKE '%(organization_id, project_id, created_at DESC, id DESC)'"
    );
    assert_eq!(database.exactly::<i64>(&index).await, 1);
    // Its references stay in the schema.
    database.execute(&add_tasks(&own, "NULL::uuid")).await;
    assert_eq!(
        database.exactly::<i64>(&format!("SELECT count(*) FROM {own}.later_tasks")).await,
        1
    );
    let problems = format!("SELECT count(*) FROM app.schema_problems('{}')", TASK.name);
    assert_eq!(database.exactly::<i64>(&problems).await, 1, "the new schema has another version");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_table_moves_with_its_organization_and_is_exported() {
    if !all_are_shared() {
        return;
    }
    let control = Database::create().await;
    let eu: DedicatedDatabase = control.dedicated("eu").await;
    for database in [&control, &eu.database] {
        migrate_to(database, &[TASK]).await;
        forget_step(database).await;
    }
    control.execute(&add_tasks("app", MEMBER)).await;
    let all = tasks(&control, "app.later_tasks").await;
    assert!(all.len() >= 3, "{all:?}");
    let run = async |arguments: &[&str]| {
        let output = command(&control, &[&eu], arguments).await;
        succeeded(&output).to_owned()
    };
    let own = crate::tenant::SCHEMA;
    run(&["tenant", "move", "acme", "--to", "schema"]).await;
    run(&["tenant", "verify", "acme"]).await;
    assert_eq!(tasks(&control, &format!("{own}.later_tasks")).await, all);
    run(&["tenant", "move", "acme", "--to", "shared", "--drop-source"]).await;
    assert_eq!(tasks(&control, "app.later_tasks").await, all);
    run(&["tenant", "move", "acme", "--to", "database:eu", "--drop-source"]).await;
    run(&["tenant", "verify", "acme"]).await;
    assert_eq!(tasks(&eu.database, "app.later_tasks").await, all);
    assert_eq!(tasks(&control, "app.later_tasks").await, Vec::<String>::new());
    let export = run(&["tenant", "export", "acme", "-"]).await;
    let exported = export.lines().filter(|line| line.starts_with("{\"table\":\"app.later_tasks\""));
    assert_eq!(exported.count(), all.len());
    let report = run(&["doctor"]).await;
    assert!(report.contains("All is well."), "{report}");
}

/// The foreign keys between tables of organizations through which a deletion changes rows without a
/// record. The action of a record needs a resource.
async fn unrecorded(database: &Database) -> Vec<String> {
    let sql = r"SELECT coalesce(array_agg(f.conrelid::regclass || ' ' || f.conname ORDER BY f.conrelid::regclass::text, f.conname), '{}')
         FROM pg_constraint f JOIN migration.tenant_tables t ON f.conrelid = t.name::regclass
         JOIN migration.tenant_tables r ON f.confrelid = r.name::regclass
         WHERE f.contype = 'f' AND f.confdeltype IN ('c', 'n', 'd')
           -- The deletion of an organization is recorded as such.
           AND r.name <> 'app.organizations'
           AND NOT EXISTS (
               SELECT FROM pg_trigger g CROSS JOIN string_to_array(encode(g.tgargs, 'escape'), '\000') arguments
               WHERE g.tgrelid = f.conrelid AND arguments[1] <> ''
                 AND CASE f.confdeltype WHEN 'c' THEN g.tgname = 'record_cascade_delete'
                     ELSE g.tgname = 'record_cascade_update' AND arguments @> ARRAY(
                         SELECT a.attname::text FROM pg_attribute a
                         WHERE a.attrelid = f.conrelid AND a.attnum = ANY (coalesce(f.confdelsetcols, f.conkey))) END)";
    database.exactly(sql).await
}

#[tokio::test]
async fn every_cascade_between_tables_of_organizations_is_recorded() {
    let database = Database::create().await;
    assert_eq!(unrecorded(&database).await, Vec::<String>::new());
    migrate_to(&database, &[TASK]).await;
    assert_eq!(unrecorded(&database).await, Vec::<String>::new());
    database
        .execute(
            "ALTER TABLE app.projects ADD COLUMN lead uuid, ADD CONSTRAINT forgotten FOREIGN KEY (organization_id, lead)
                 REFERENCES auth.organization_members ON DELETE SET NULL (lead)",
        )
        .await;
    assert_eq!(unrecorded(&database).await, ["app.projects forgotten"]);
}

#[tokio::test]
async fn a_cascade_is_audited_and_published() {
    let database = Database::create().await;
    if !all_are_shared() {
        return;
    }
    migrate_to(&database, &[TASK]).await;
    crate::support::placement::move_to_schema(
        &database.connect_admin().await,
        crate::support::placement::GLOBEX.parse().unwrap(),
    )
    .await;
    for (organization, own, log) in
        [(ACME, "app", "audit"), (crate::support::placement::GLOBEX, GLOBEX_SCHEMA, GLOBEX_SCHEMA)]
    {
        let mut listener = Listener::connect(&database.admin(), "tenantry").await.unwrap();
        let members = if own == "app" { "auth" } else { own };
        database.execute(&add_tasks(own, MEMBER)).await;
        let count = format!(
            "SELECT count(*) FROM {own}.later_tasks WHERE organization_id = '{organization}'"
        );
        let count: i64 = database.exactly(&count).await;
        assert!(count > 0);
        let recorded = async |action: &str| -> i64 {
            let sql = format!(
                "SELECT count(*) FROM {log}.audit_logs WHERE organization_id = '{organization}'
                     AND action = '{action}' AND resource_type = 'later_task' AND resource_id IS NOT NULL"
            );
            database.exactly(&sql).await
        };
        let delete = async |table: &str| {
            let column = if table.ends_with("organizations") { "id" } else { "organization_id" };
            let viewer = if table.ends_with("members") { "AND role = 'viewer'" } else { "" };
            let sql = format!("DELETE FROM {table} WHERE {column} = '{organization}' {viewer}");
            database.connect_admin().await.batch(&sql).await.unwrap();
        };
        delete(&format!("{members}.organization_members")).await;
        assert_eq!(
            (recorded("later_task.updated").await, recorded("later_task.deleted").await),
            (count, 0)
        );
        let kept = format!(
            "SELECT count(*) FROM {own}.later_tasks WHERE assignee IS NULL AND organization_id = '{organization}'"
        );
        assert_eq!(database.exactly::<i64>(&kept).await, count);
        let notice = listener.next().await.unwrap();
        assert!(notice.contains(organization) && notice.contains("\"later_task\""), "{notice}");

        // A task that is deleted itself is recorded by the operation that deletes it.
        let one = format!(
            "DELETE FROM {own}.later_tasks WHERE id = (SELECT min(id::text)::uuid FROM {own}.later_tasks WHERE organization_id = '{organization}')"
        );
        database.connect_admin().await.batch(&one).await.unwrap();
        assert_eq!(recorded("later_task.deleted").await, 0);
        delete(&format!("{own}.projects")).await;
        assert_eq!(recorded("later_task.deleted").await, count - 1);

        // Nor is each row of a deleted organization recorded.
        let project = format!(
            "INSERT INTO {own}.projects (organization_id, name) VALUES ('{organization}', 'x')"
        );
        database.connect_admin().await.batch(&project).await.unwrap();
        database.execute(&add_tasks(own, "NULL::uuid")).await;
        delete(&format!("{own}.organizations")).await;
        assert_eq!(recorded("later_task.deleted").await, count - 1);
    }
}

/// Deletes the projects of an organization as a user in its session.
async fn delete_projects(database: &Database, organization: &str, user: &str) {
    let connection = database.connect_admin().await;
    connection.batch("BEGIN").await.unwrap();
    act(&connection, Some(organization), Some(user)).await;
    connection.batch("DELETE FROM app.projects; COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_cascade_names_its_actor_and_the_keys_of_its_rows() {
    let database = Database::create().await;
    if !all_are_shared() {
        return;
    }
    migrate_to(&database, &[TASK]).await;
    let label = "INSERT INTO app.later_labels (organization_id, project_id, label)
        SELECT organization_id, id, label FROM app.projects CROSS JOIN unnest('{red,blue}'::text[]) label";
    database.execute(label).await;
    let count = format!(
        "SELECT count(*) FROM app.later_labels WHERE organization_id = '{ACME}' AND label = 'red'"
    );
    let count: i64 = database.exactly(&count).await;
    assert!(count > 0);
    let user = "SELECT user_id::text FROM auth.identities WHERE subject = 'acme-owner'";
    let user: String = database.exactly(user).await;
    delete_projects(&database, ACME, &user).await;
    let recorded = format!(
        "SELECT count(*) FROM audit.audit_logs WHERE organization_id = '{ACME}' AND action = 'later_label.deleted'
             AND actor_id = '{user}' AND resource_id IS NULL AND metadata @> '{{\"label\": \"red\", \"cascade\": true}}'
             AND metadata ? 'project_id'"
    );
    assert_eq!(database.exactly::<i64>(&recorded).await, count);
}

#[tokio::test]
async fn a_cascade_to_many_rows_is_one_notification() {
    let database = Database::create().await;
    if !all_are_shared() {
        return;
    }
    migrate_to(&database, &[TASK]).await;
    let add = format!(
        "INSERT INTO app.later_tasks (organization_id, project_id, title)
         SELECT p.organization_id, p.id, n::text FROM app.projects p CROSS JOIN generate_series(1, 300) n
         WHERE p.id = (SELECT min(id::text)::uuid FROM app.projects WHERE organization_id = '{ACME}')"
    );
    database.execute(&add).await;
    let mut listener = Listener::connect(&database.admin(), "tenantry").await.unwrap();
    let user = "SELECT user_id::text FROM auth.identities WHERE subject = 'acme-owner'";
    delete_projects(&database, ACME, &database.exactly::<String>(user).await).await;
    database.execute("NOTIFY tenantry, 'end'").await;
    let notice: serde_json::Value = serde_json::from_str(&listener.next().await.unwrap()).unwrap();
    assert_eq!((&notice["lost"], &notice["changes"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(listener.next().await.unwrap(), "end");
    let recorded = "SELECT count(DISTINCT resource_id) FROM audit.audit_logs WHERE action = 'later_task.deleted'";
    assert_eq!(database.exactly::<i64>(recorded).await, 300);
}

const GLOBEX_SCHEMA: &str = "org_0000000000004000800000000000000b";
