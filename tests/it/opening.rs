//! An opening by one statement has the result of the full resolution, and the copies on which it
//! relies are exact.

use serde_json::Value;

use crate::support::{database::Database, placement};

/// What can change in what an opening reads.
const CHANGES: [&str; 18] = [
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
    "INSERT INTO app.database (name) VALUES ('eu')",
];

#[tokio::test]
async fn the_usual_query_is_opened_as_the_full_resolution_would() {
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
    let callers = [
        ("acme-owner", "acme"),
        ("acme-member", "acme"),
        ("globex-owner", "acme"),
        ("acme-owner", "acme-before"),
        ("acme-owner", "missing"),
        ("unknown", "acme"),
    ];
    let admin = database.connect_admin().await;
    let mut outcomes = std::collections::BTreeSet::new();
    for (subject, slug) in callers {
        let arguments = database.proven(subject, slug, 0).await;
        let arguments = arguments.replace("'database:eu'", "'shared'");
        for change in CHANGES {
            let begin = format!("BEGIN; {change}; SET TRANSACTION READ ONLY");
            admin.batch(&begin).await.unwrap();
            let full = format!(
                "SELECT to_jsonb(r)::text FROM auth.resolve_request({arguments}, true, NULL) r"
            );
            let one = format!("SELECT to_jsonb(r)::text FROM auth.open_request({arguments}) r");
            let full: String = admin.query_one(&full, &[]).await.unwrap();
            let one: String = admin.query_one(&one, &[]).await.unwrap();
            assert_eq!(one, full, "{subject} at {slug} after {change}");
            let row: Value = serde_json::from_str(&one).unwrap();
            outcomes.insert(row["outcome"].as_str().unwrap().to_owned());
            admin.batch("ROLLBACK").await.unwrap();
        }
    }
    let expected = [
        "ERASED",
        "NOT_FOUND",
        "OK",
        "ORGANIZATION_SUSPENDED",
        "OTHER_PLACEMENT",
        "UNKNOWN_IDENTITY",
        "USER_SUSPENDED",
    ];
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn billing_and_placement_leave_the_time_of_the_organization() {
    let database = Database::create().await;
    let times = "SELECT string_agg(updated_at::text, ' ' ORDER BY id) FROM app.organizations";
    let before: String = database.exactly(times).await;
    let change = "UPDATE billing.organization_billing SET plan = plan;
        INSERT INTO app.placements (organization_id, placement) SELECT id, 'shared' FROM app.organizations ON CONFLICT DO NOTHING;
        UPDATE app.placements SET placement = placement";
    database.connect_admin().await.batch(change).await.unwrap();
    assert_eq!(database.exactly::<String>(times).await, before);
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
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                           AND wait_event_type = 'Lock'";
            while database.exactly::<i64>(waiting).await == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
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
