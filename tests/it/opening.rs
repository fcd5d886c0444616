//! An opening by one statement has the result of the full resolution, and the copies on which it
//! relies are exact, also after changes at the same time.

use serde_json::Value;

use crate::support::{HANG, database::Database, placement, sessions::Request};

/// What can change in what an opening reads.
const CHANGES: [&str; 30] = [
    "SELECT",
    "UPDATE auth.organization_members SET role = 'viewer' WHERE role <> 'viewer'",
    "DELETE FROM auth.organization_members",
    "UPDATE auth.users SET suspended_at = now()",
    "UPDATE auth.identities SET not_before = now()",
    "UPDATE auth.identities SET profile = '{}', email = 'new@example.com'",
    "DELETE FROM auth.identities",
    "UPDATE app.organizations SET name = name || '!'",
    "UPDATE app.organizations SET slug = 'other' WHERE slug = 'acme'",
    "DELETE FROM app.organizations",
    "DELETE FROM billing.organization_billing",
    "UPDATE billing.organization_billing SET status = 'past_due', paid_until = now(), cancel_at_period_end = true",
    "INSERT INTO billing.organization_features (organization_id, feature) SELECT id, 'exports' FROM app.organizations",
    "INSERT INTO app.placements (organization_id, placement, generation) SELECT id, 'shared', 3 FROM app.organizations",
    "INSERT INTO app.placements (organization_id, placement) SELECT id, 'database:eu' FROM app.organizations",
    "INSERT INTO app.placements (organization_id, placement, suspension, suspended_at) SELECT id, 'shared', 'full', now() FROM app.organizations",
    "INSERT INTO app.placements (organization_id, placement, suspension, suspended_at) SELECT id, 'shared', 'read-only', now() FROM app.organizations",
    "INSERT INTO app.placements (organization_id, placement, moving_to) SELECT id, 'shared', 'schema' FROM app.organizations",
    "INSERT INTO app.placements (organization_id, placement, version) SELECT id, 'schema', 'v' FROM app.organizations;
        UPDATE app.placements SET placement = 'shared', generation = 2",
    "INSERT INTO app.placements (organization_id, placement) SELECT id, 'remote' FROM app.organizations; DELETE FROM app.placements",
    "INSERT INTO app.placements (organization_id, placement, suspension, suspended_at) SELECT id, 'shared', 'full', now() FROM app.organizations;
        UPDATE app.placements SET suspension = NULL, suspended_at = NULL",
    "UPDATE billing.organization_billing SET plan = 'pro', stripe_subscription_id = organization_id::text, period_start = now(),
        period_end = now(), trial_ends_at = now(), past_due_since = now(), paid_until = now(), has_exceptions = true",
    "CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM billing.organization_billing; DELETE FROM billing.organization_billing;
        INSERT INTO billing.organization_billing SELECT * FROM kept; UPDATE app.organizations SET name = 'x'",
    "UPDATE app.organizations SET slug = 'other' WHERE slug = 'acme'; UPDATE app.organizations SET slug = 'acme' WHERE slug = 'other'",
    "INSERT INTO app.database (name) VALUES ('eu')",
    "INSERT INTO app.database (name) VALUES ('eu'); INSERT INTO app.placements (organization_id, placement) SELECT id, 'shared' FROM app.organizations",
    "WITH b AS (UPDATE billing.organization_billing SET paid_until = now() RETURNING 1)
        UPDATE app.organizations SET name = name || (SELECT count(*) FROM b)",
    "UPDATE auth.identities SET email = 'a@example.com'",
    "UPDATE auth.identities SET profile = '{\"name\": \"A\", \"picture\": \"p\"}'",
    "UPDATE auth.identities SET issued_at = now() - interval '2 minutes'",
];

pub const OWNER: Request<'_> = Request {
    subject: "acme-owner",
    path: "'acme'",
    claim: "NULL",
    email: "NULL",
    issued_at: "NULL",
    age: 0,
};
pub const ID: &str = "(SELECT id FROM app.organizations WHERE slug = 'acme')";
pub const OTHER_ID: &str = "(SELECT id FROM app.organizations WHERE slug = 'globex')";
const SOON: &str =
    "(SELECT updated_at + interval '59 s' FROM auth.identities WHERE subject = 'acme-owner')";
const LATER: &str =
    "(SELECT updated_at + interval '61 s' FROM auth.identities WHERE subject = 'acme-owner')";

/// Requests whose usual case is opened by one statement.
const USUAL: [Request<'_>; 6] = [
    OWNER,
    Request { subject: "acme-member", ..OWNER },
    Request { claim: "'acme'", ..OWNER },
    Request { path: "NULL", claim: "'acme'", ..OWNER },
    Request { issued_at: SOON, ..OWNER },
    Request { path: "'globex'", subject: "globex-owner", ..OWNER },
];

const OTHERS: [Request<'_>; 14] = [
    Request { subject: "globex-owner", ..OWNER },
    Request { subject: "unknown", ..OWNER },
    Request { path: "'acme-before'", ..OWNER },
    Request { path: "'missing'", ..OWNER },
    Request { path: "NULL", claim: ID, ..OWNER },
    Request { claim: ID, ..OWNER },
    Request { claim: OTHER_ID, ..OWNER },
    Request { claim: "'acme-before'", ..OWNER },
    Request { claim: "'globex'", ..OWNER },
    Request { path: "NULL", ..OWNER },
    Request { issued_at: LATER, ..OWNER },
    Request { email: "'a@example.com'", issued_at: SOON, ..OWNER },
    Request { email: "'b@example.com'", ..OWNER },
    Request { age: 400, ..OWNER },
];

/// Whether the token is recorded, and the profile in it.
const RECORDS: [&str; 4] =
    ["true, NULL", "true, '{\"name\": \"A\"}'", "false, NULL", "false, '{}'"];

#[tokio::test]
async fn the_usual_request_is_opened_as_the_full_resolution_would() {
    if !placement::all_are_shared() {
        return;
    }
    let database = Database::create().await;
    database
        .execute(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at)
             SELECT 'acme-before', id, now() FROM app.organizations WHERE slug = 'acme'",
        )
        .await;
    database
        .execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_functions = pl', current_database()); END $$",
        )
        .await;
    let admin = database.connect_admin().await;
    let full_calls = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_xact_user_functions
        WHERE funcname = 'resolve_request'";
    let mut outcomes = std::collections::BTreeSet::new();
    let requests = USUAL.iter().map(|request| (request, true));
    for (request, is_usual) in requests.chain(OTHERS.iter().map(|request| (request, false))) {
        let arguments = database.proven_request(request).await;
        for (change, record, access) in variants() {
            let begin = format!("BEGIN; {change}; SET TRANSACTION READ {access}");
            admin.batch(&begin).await.unwrap();
            let open = async |function: &str| -> String {
                let sql = format!(
                    "SELECT to_jsonb(r)::text FROM auth.{function}({arguments}, {record}) r"
                );
                admin.query_one(&sql, &[]).await.unwrap()
            };
            let before: i64 = admin.query_one(full_calls, &[]).await.unwrap();
            let one = open("open_request").await;
            let after: i64 = admin.query_one(full_calls, &[]).await.unwrap();
            let case = format!("{arguments}, {record} after {change}, {access}");
            assert_eq!(one, open("resolve_request").await, "{case}");
            if change == CHANGES[0] && record == RECORDS[0] {
                assert_eq!(after == before, is_usual, "opened by one statement: {case}");
            }
            let row: Value = serde_json::from_str(&one).unwrap();
            outcomes.insert(row["outcome"].as_str().unwrap().to_owned());
            admin.batch("ROLLBACK").await.unwrap();
        }
    }
    let expected = [
        "CLOCKS_DIFFER",
        "ERASED",
        "MISMATCH",
        "NOT_FOUND",
        "OK",
        "ORGANIZATION_SUSPENDED",
        "OTHER_PLACEMENT",
        "STALE_IDENTITY",
        "UNKNOWN_IDENTITY",
        "USER_SUSPENDED",
    ];
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), expected);
}

/// Each change with each record and profile, in a transaction that reads and in one that may write.
fn variants() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let records =
        RECORDS.into_iter().flat_map(|record| ["ONLY", "WRITE"].map(|access| (record, access)));
    CHANGES.into_iter().flat_map(move |change| {
        records.clone().map(move |(record, access)| (change, record, access))
    })
}

const STALE: &str = "SELECT count(*) FROM app.stale_copies(true)";

#[tokio::test]
async fn every_change_reaches_the_copies() {
    if !placement::all_are_shared() {
        return;
    }
    let database = Database::create().await;
    let admin = database.connect_admin().await;
    for change in CHANGES {
        admin.batch(&format!("BEGIN; {change}")).await.unwrap();
        assert_eq!(admin.query_one::<i64>(STALE, &[]).await.unwrap(), 0, "{change}");
        admin.batch("ROLLBACK").await.unwrap();
    }
}

/// Waits until a transaction waits for a lock.
pub async fn wait_for_waiting(database: &Database) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock'";
    let wait = async {
        while database.exactly::<i64>(waiting).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(HANG, wait).await.expect("no transaction waits for a lock");
}

/// Changes of each source of one organization's row.
const SOURCES: [&str; 3] = [
    "UPDATE app.organizations SET name = name || '!' WHERE slug = 'acme'",
    "UPDATE billing.organization_billing SET paid_until = clock_timestamp()
        WHERE organization_id = (SELECT id FROM app.organizations WHERE slug = 'acme')",
    "INSERT INTO app.placements AS p (organization_id, placement, suspension, suspended_at)
        SELECT id, 'shared', 'full', now() FROM app.organizations WHERE slug = 'acme'
        ON CONFLICT (organization_id) DO UPDATE
        SET suspension = CASE WHEN p.suspension IS NULL THEN 'full' END,
            suspended_at = CASE WHEN p.suspension IS NULL THEN now() END",
];

#[tokio::test]
async fn two_changes_at_the_same_time_both_reach_the_copies() {
    for level in ["READ COMMITTED", "REPEATABLE READ"] {
        for first in SOURCES {
            for second in SOURCES.into_iter().filter(|second| *second != first) {
                let database = Database::create().await;
                let (one, other) = (database.connect_admin().await, database.connect_admin().await);
                one.batch(&format!("BEGIN; {first}")).await.unwrap();
                other.batch(&format!("BEGIN ISOLATION LEVEL {level}; SELECT")).await.unwrap();
                let commit = async {
                    wait_for_waiting(&database).await;
                    one.batch("COMMIT").await.unwrap();
                };
                let (changed, ()) = futures_util::join!(other.batch(second), commit);
                if level == "REPEATABLE READ" {
                    let error = format!("{:?}", changed.unwrap_err());
                    assert!(error.contains("40001"), "{error}");
                } else {
                    changed.unwrap();
                    other.batch("COMMIT").await.unwrap();
                }
                assert_eq!(database.exactly::<i64>(STALE).await, 0, "{level}: {first}; {second}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changes_at_the_same_time_all_reach_the_copies() {
    let database = Database::create().await;
    let changes = (0..8_usize).map(async |client| {
        let connection = database.connect_admin().await;
        for round in 0..30 {
            connection.batch(SOURCES[(client + round) % SOURCES.len()]).await.unwrap();
        }
    });
    futures_util::future::join_all(changes).await;
    assert_eq!(database.exactly::<i64>(STALE).await, 0);
}

#[tokio::test]
async fn a_change_of_the_rule_reaches_the_copies() {
    let database = Database::create().await;
    let shouted = "SELECT count(*) FROM app.organization_lookup WHERE name = upper(name)";
    let before: i64 = database.exactly(shouted).await;
    let older = "DO $$ BEGIN EXECUTE replace(pg_get_functiondef('app.lookup_source'::regproc), 'o.name', 'upper(o.name)'); END $$;
        SELECT app.refresh_stale_lookups();
        UPDATE migration.functions SET digest = '' WHERE name = 'app.refresh_lookup'";
    database.connect_admin().await.batch(older).await.unwrap();
    assert_ne!(database.exactly::<i64>(shouted).await, before);
    migration::migrate(database.admin(), None).await.unwrap();
    assert_eq!(database.exactly::<i64>(shouted).await, before);
    assert_eq!(database.exactly::<i64>(STALE).await, 0);
}

#[tokio::test]
async fn a_column_that_a_step_adds_disturbs_no_change() {
    let database = Database::create().await;
    let admin = database.connect_admin().await;
    admin.batch("ALTER TABLE app.organization_lookup ADD COLUMN later text").await.unwrap();
    for change in SOURCES {
        admin.batch(change).await.unwrap();
    }
    assert_eq!(database.exactly::<i64>(STALE).await, 0);
}

#[tokio::test]
async fn a_slug_that_passed_unnoticed_is_repaired() {
    if !placement::all_are_shared() {
        return;
    }
    for (from, to) in [("acme", "globex"), ("globex", "acme")] {
        let database = Database::create().await;
        let pass = format!(
            "SET session_replication_role = replica;
             UPDATE app.organizations SET slug = 'free' WHERE slug = '{from}';
             UPDATE app.organizations SET slug = '{from}' WHERE slug = '{to}';
             RESET session_replication_role"
        );
        let admin = database.connect_admin().await;
        admin.batch(&pass).await.unwrap();
        let unsafe_copies = "SELECT count(*) FROM app.stale_copies(true) WHERE is_unsafe";
        assert_eq!(database.exactly::<i64>(unsafe_copies).await, 1);
        admin.batch("SELECT app.refresh_stale_lookups()").await.unwrap();
        assert_eq!(database.exactly::<i64>(STALE).await, 0, "{from} to {to}");
    }
}

#[tokio::test]
async fn a_change_that_concerns_no_copy_keeps_sessions_valid() {
    if !placement::all_are_shared() {
        return;
    }
    let database = Database::create().await;
    let admin = database.connect_admin().await;
    admin.batch(CHANGES[13]).await.unwrap();
    let versions = "SELECT string_agg(xmin::text, ' ' ORDER BY slug) FROM app.organization_lookup";
    let before: String = admin.query_one(versions, &[]).await.unwrap();
    let moved = "UPDATE app.placements SET moved_at = now(), old_placement = 'schema'";
    admin.batch(moved).await.unwrap();
    assert_eq!(admin.query_one::<String>(versions, &[]).await.unwrap(), before);
}

#[tokio::test]
async fn a_profile_that_is_not_json_fails_before_anything_is_read() {
    let database = Database::create().await;
    let connection = database.connect_app().await;
    for subject in ["acme-owner", "unknown"] {
        let sql = format!(
            "SELECT outcome FROM auth.open_request('', '{subject}', 'acme', NULL, NULL, 'shared', NULL, 0, '', true, 'not json')"
        );
        let error = connection.query_one::<String>(&sql, &[]).await.unwrap_err();
        assert!(
            error.to_string().contains("22P02") || format!("{error:?}").contains("22P02"),
            "{error:?}"
        );
    }
}

const USER: &str = "(SELECT user_id FROM auth.identities WHERE subject = 'acme-member')";

#[tokio::test]
async fn an_identity_that_is_linked_during_a_suspension_is_suspended() {
    let database = Database::create().await;
    let suspend = format!("UPDATE auth.users SET suspended_at = now() WHERE id = {USER}");
    let link =
        |subject: &str| format!("INSERT INTO auth.identities VALUES ('', '{subject}', {USER})");
    let transactions = [(suspend.clone(), link("second")), (link("third"), suspend)];
    for (first, second) in transactions {
        let (one, other) = (database.connect_admin().await, database.connect_admin().await);
        one.batch(&format!("BEGIN; {first}")).await.unwrap();
        let commit = async {
            wait_for_waiting(&database).await;
            one.batch("COMMIT").await.unwrap();
        };
        let (committed, ()) = futures_util::join!(other.batch(&second), commit);
        committed.unwrap();
        let active = format!(
            "SELECT count(*) FROM auth.identities WHERE user_id = {USER} AND suspended_at IS NULL"
        );
        assert_eq!(database.exactly::<i64>(&active).await, 0, "{first}; {second}");
        let lift = "UPDATE auth.users SET suspended_at = NULL";
        database.connect_admin().await.batch(lift).await.unwrap();
        assert_ne!(database.exactly::<i64>(&active).await, 0, "the suspension is lifted");
    }
}

#[tokio::test]
async fn a_suspension_leaves_the_time_of_the_newest_token() {
    let database = Database::create().await;
    let times = "SELECT string_agg(updated_at::text, ' ' ORDER BY subject) FROM auth.identities";
    let before: String = database.exactly(times).await;
    for suspended in ["now()", "NULL"] {
        let suspend = format!("UPDATE auth.users SET suspended_at = {suspended}");
        database.connect_admin().await.batch(&suspend).await.unwrap();
        assert_eq!(database.exactly::<String>(times).await, before);
    }
}
