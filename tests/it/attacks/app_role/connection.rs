//! Leaving something on the pooled connection for a later request of another tenant: prepared
//! statements, settings, and commands behind other statements.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::Value;
use tenantry::{
    auth::Caller,
    tenancy::{Access, Destination, OpenFor, Session, open},
};

use super::{ACME, GLOBEX, Injected};
use crate::support::{App, AppSettings, database::Database, placement};

const PROJECTS: &str = "{ organization { projects(first: 9) { totalCount nodes { name } } } }";

/// All requests share one connection.
async fn app(statement_cache: usize) -> App {
    App::with(AppSettings { max_connections: 1, statement_cache, ..AppSettings::default() }).await
}

/// A request of acme's owner into which SQL is injected.
async fn injected(app: &App, access: Access) -> Arc<Session> {
    let caller = Caller {
        expires_at: chrono::DateTime::<chrono::Utc>::MAX_UTC,
        subject: "acme-owner".to_owned(),
        ..Caller::default()
    };
    let destination = Destination { slug: Some("acme".to_owned()), client_ip: None };
    let (placement, environment) = (&app.service.databases, &app.service.settings);
    let open_for = match access {
        Access::Read => OpenFor::Query,
        Access::Write => OpenFor::Mutation { makes_several_changes: false },
    };
    let opened = open(placement, environment, &caller, &destination, &open_for).await;
    opened.unwrap().session
}

async fn texts(session: &Session, sql: &str) -> Vec<String> {
    let rows = session.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
    rows.unwrap().iter().map(|row| row.try_get("", "text").unwrap()).collect()
}

async fn end(session: Arc<Session>, access: Access) {
    match access {
        Access::Read => session.transaction().release(),
        Access::Write => session.commit().await.unwrap(),
    }
}

fn names(data: &Value) -> &Value {
    &data["organization"]["projects"]
}

#[tokio::test]
async fn a_replaced_statement_serves_no_later_request() {
    for access in [Access::Read, Access::Write] {
        let app = app(100).await;
        let globex = app.user("globex-owner");
        globex.data(PROJECTS).await;
        let before = globex.data(PROJECTS).await;
        let session = injected(&app, access).await;
        let found = "SELECT concat('DEALLOCATE ', name, ';PREPARE ', name,
                '(' || nullif(array_to_string(parameter_types, ', '), '') || ')', ' AS SELECT 1 WHERE false') AS text
            FROM pg_prepared_statements WHERE statement ~ '^SELECT.*projects'";
        let found = texts(&session, found).await;
        assert!(!found.is_empty());
        for replaced in found {
            for sql in replaced.split(';') {
                session.execute_unprepared(sql).await.unwrap();
            }
        }
        end(session, access).await;
        let after = globex.data(PROJECTS).await;
        assert_eq!(names(&after), names(&before));
    }
}

#[tokio::test]
async fn nothing_but_queries_and_changes_leaves_its_connection_to_others() {
    let app = app(100).await;
    let backend = "SELECT pg_backend_pid()::text AS text";
    let pid = async || {
        let session = injected(&app, Access::Read).await;
        let pid = texts(&session, backend).await;
        session.transaction().release();
        pid
    };
    for plain in [
        "WITH one AS (SELECT 1) SELECT * FROM one",
        "VALUES (1)",
        "\n  select 1",
        "INSERT INTO projects (organization_id, name) SELECT organization_id, name FROM projects WHERE false",
        "UPDATE projects SET name = name WHERE false",
        "DELETE FROM projects WHERE false",
    ] {
        let before = pid().await;
        let session = injected(&app, Access::Write).await;
        session.execute_unprepared(plain).await.unwrap();
        end(session, Access::Write).await;
        assert_eq!(pid().await, before, "{plain}");
    }
    for other in [
        "DEALLOCATE ALL",
        "PREPARE mine AS SELECT 1",
        "/* SELECT */ PREPARE mine AS SELECT 1",
        "-- SELECT\nDISCARD PLANS",
        "(SELECT 1)",
        "SET search_path = public",
        "LISTEN globex",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "DO $$ BEGIN END $$",
        "SAVEPOINT s",
        "EXPLAIN SELECT 1",
        "nonsense",
        "",
    ] {
        for access in [Access::Read, Access::Write] {
            let before = pid().await;
            let session = injected(&app, access).await;
            let outcome = session.execute_unprepared(other).await;
            if outcome.is_ok() {
                end(session, access).await;
            } else {
                session.transaction().roll_back().await;
            }
            assert_ne!(pid().await, before, "{other}");
        }
    }
}

#[tokio::test]
async fn no_command_fits_behind_another_statement() {
    for statement_cache in [100, 0] {
        let app = app(statement_cache).await;
        let before = app.database.fingerprint().await;
        for command in
            ["DELETE FROM projects", "DEALLOCATE ALL", "COMMIT", "SET search_path = public"]
        {
            let sql = format!("SELECT 1; {command}");
            let session = injected(&app, Access::Write).await;
            let refused = session.execute_unprepared(&sql).await.unwrap_err();
            assert!(refused.to_string().contains("cannot insert multiple commands"), "{refused}");
            session.transaction().roll_back().await;
            let session = injected(&app, Access::Write).await;
            let statement = Statement::from_string(DbBackend::Postgres, sql);
            session.query_all_raw(statement).await.unwrap_err();
            session.transaction().roll_back().await;
        }
        assert_eq!(app.database.fingerprint().await, before);
    }
}

#[tokio::test]
async fn functions_that_run_text_refuse_commands() {
    let database = Database::create().await;
    let mut injected = Injected::new(&database).await;
    injected.run("PREPARE kept AS SELECT 1").await.unwrap();
    let runners = [
        "query_to_xml('COMMAND', true, true, '')",
        "query_to_xmlschema('COMMAND', true, true, '')",
        "query_to_xml_and_xmlschema('COMMAND', true, true, '')",
        "ts_stat('COMMAND')",
        "ts_stat('COMMAND', 'a')",
        "ts_rewrite('a'::tsquery, 'COMMAND')",
    ];
    for runner in runners {
        for command in [
            "DEALLOCATE ALL",
            "DEALLOCATE kept",
            "PREPARE mine AS SELECT 1",
            "SET search_path = public",
            "DISCARD ALL",
            "LISTEN globex",
            "SELECT 1; DEALLOCATE ALL",
            "DELETE FROM projects",
        ] {
            let sql = format!("SELECT * FROM {}", runner.replace("COMMAND", command));
            assert!(injected.attempt(&sql).await.is_err(), "{sql}");
        }
    }
    let left = "SELECT string_agg(name, ' ') FROM pg_prepared_statements WHERE from_sql";
    assert_eq!(injected.text(left).await, "kept");
    assert_eq!(injected.text("SELECT count(*)::text FROM projects").await, "4");
}

/// What a statement that is a mere query can set for as long as the connection lives.
const LEFT: [&str; 4] = [
    "SELECT set_config('NAME', 'VALUE', false)",
    "SELECT query_to_xml('SELECT set_config(''NAME'', ''VALUE'', false)', true, true, '')::text",
    "UPDATE pg_settings SET setting = 'VALUE' WHERE name = 'NAME'",
    "WITH s AS MATERIALIZED (SELECT set_config('NAME', 'VALUE', false)) SELECT * FROM s",
];

#[tokio::test]
async fn settings_end_with_their_request() {
    let app = app(100).await;
    let settings = [
        ("app.replicating", "on"),
        ("app.moving", "on"),
        ("search_path", "org_1, app, auth, billing, audit, pg_temp"),
        ("client_encoding", "LATIN1"),
        ("synchronous_commit", "local"),
        ("row_security", "off"),
        ("default_transaction_read_only", "on"),
        ("statement_timeout", "1234"),
        ("TimeZone", "Asia/Tokyo"),
    ];
    let all = settings.map(|(name, _)| format!("coalesce(current_setting('{name}', true), '')"));
    let all = format!("SELECT concat_ws('|', {}) AS text", all.join(", "));
    for access in [Access::Read, Access::Write] {
        let now = async || {
            let session = injected(&app, access).await;
            let now = texts(&session, &all).await;
            session.transaction().release();
            now
        };
        let before = now().await;
        for (name, value) in settings {
            for left in LEFT {
                let sql = left.replace("NAME", name).replace("VALUE", value);
                let session = injected(&app, access).await;
                let done = session.execute_unprepared(&sql).await;
                if done.is_ok() {
                    end(session, access).await;
                } else {
                    session.transaction().roll_back().await;
                }
                assert_eq!(now().await, before, "{sql}");
            }
        }
    }
}

/// A change of a dedicated schema that is not copied to the directory would let a removed member
/// in.
#[tokio::test]
async fn a_setting_of_one_tenant_leaves_no_removed_member_of_another_inside() {
    if !placement::all_are_shared() {
        return;
    }
    let app = app(100).await;
    placement::move_to_schema(&app.database.connect_admin().await, GLOBEX.parse().unwrap()).await;
    let owner = app.user("globex-owner");
    let members = "{ organization { members(first: 9) { nodes { id role } } } }";
    let members = owner.data(members).await;
    let members = members["organization"]["members"]["nodes"].as_array().unwrap();
    let viewer = members.iter().find(|member| member["role"] == "VIEWER").unwrap()["id"].clone();
    app.user("globex-viewer").data("{ organization { id } }").await;
    let session = injected(&app, Access::Write).await;
    assert_eq!(texts(&session, "SELECT app.current_organization()::text AS text").await, [ACME]);
    session.execute_unprepared("SELECT set_config('app.replicating', 'on', false)").await.unwrap();
    session.commit().await.unwrap();
    let remove = "mutation ($id: ID!) { removeMember(input: { id: $id }) { member { id } } }";
    owner.query_with(remove, serde_json::json!({ "id": viewer })).await.data();
    let removed = app.user("globex-viewer").query("{ organization { id } }").await;
    removed.assert_refused(404, "NOT_FOUND");
}
