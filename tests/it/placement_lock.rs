//! A transaction that may write opens its session under the placement lock of its organization, and
//! only members take that lock.

use crate::{
    opening::{ID, OTHER_ID, OWNER, wait_for_waiting},
    support::{database::Database, placement, sessions::Request},
};

const LOCKS: &str =
    "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'";

#[tokio::test]
async fn only_members_take_the_placement_lock() {
    if !placement::all_are_shared() {
        return;
    }
    let database = Database::create().await;
    let suspend = "UPDATE auth.users u SET suspended_at = now() FROM auth.identities i
        WHERE i.user_id = u.id AND i.subject = 'acme-viewer'";
    database.connect_admin().await.batch(suspend).await.unwrap();
    let admin = database.connect_admin().await;
    let of = |subject| Request { subject, ..OWNER };
    let cases = [
        ("OK", OWNER, 1),
        ("OK", Request { path: "'acme-before'", ..OWNER }, 1),
        ("NOT_FOUND", of("globex-owner"), 0),
        ("USER_SUSPENDED", of("acme-viewer"), 0),
        ("UNKNOWN_IDENTITY", of("unknown"), 0),
        ("CLOCKS_DIFFER", Request { age: 400, ..OWNER }, 0),
    ];
    admin
        .batch(
            "INSERT INTO app.organization_slugs (slug, organization_id, retired_at)
             SELECT 'acme-before', id, now() FROM app.organizations WHERE slug = 'acme'",
        )
        .await
        .unwrap();
    for (expected, request, locks) in cases {
        let arguments = database.proven_request(&request).await;
        for function in ["open_request", "resolve_request"] {
            admin.batch("BEGIN").await.unwrap();
            let open = format!("SELECT outcome FROM auth.{function}({arguments}, true, NULL)");
            assert_eq!(admin.query_one::<String>(&open, &[]).await.unwrap(), expected);
            let taken: i64 = admin.query_one(LOCKS, &[]).await.unwrap();
            assert_eq!(taken, locks, "{function}: {arguments}");
            admin.batch("ROLLBACK").await.unwrap();
        }
    }
    admin.batch("BEGIN").await.unwrap();
    let forged = "SELECT outcome FROM auth.open_request('', 'acme-owner', 'acme', NULL, NULL)";
    assert_eq!(admin.query_one::<String>(forged, &[]).await.unwrap(), "UNPROVEN");
    assert_eq!(admin.query_one::<i64>(LOCKS, &[]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_mutation_that_waited_for_the_lock_reads_what_was_changed_meanwhile() {
    if !placement::all_are_shared() {
        return;
    }
    for (change, expected, locks) in [
        (
            "UPDATE app.organizations SET slug = 'free' WHERE slug = 'acme';
             UPDATE app.organizations SET slug = 'acme' WHERE slug = 'globex';
             UPDATE app.organization_slugs SET organization_id = (SELECT id FROM app.organizations WHERE slug = 'acme')
                WHERE slug = 'acme'",
            "OK viewer",
            2,
        ),
        (
            "INSERT INTO app.placements (organization_id, placement)
                SELECT id, 'schema' FROM app.organizations WHERE slug = 'acme'",
            "OTHER_PLACEMENT owner",
            1,
        ),
    ] {
        let database = Database::create().await;
        let (mover, caller) = (database.connect_admin().await, database.connect_app().await);
        let member = format!(
            "INSERT INTO auth.organization_members (organization_id, user_id, role)
             SELECT {OTHER_ID}, user_id, 'viewer' FROM auth.identities WHERE subject = 'acme-owner'"
        );
        mover.batch(&member).await.unwrap();
        let open = database.proven("acme-owner", "acme", 0).await;
        let open =
            format!("SELECT concat_ws(' ', outcome, role) FROM auth.open_request({open})");
        let lock = format!("BEGIN; SELECT pg_advisory_xact_lock(app.placement_lock({ID}))");
        mover.batch(&lock).await.unwrap();
        caller.batch("BEGIN").await.unwrap();
        let change = async {
            wait_for_waiting(&database).await;
            mover.batch(change).await.unwrap();
            mover.batch("COMMIT").await.unwrap();
        };
        let (opened, ()) = futures_util::join!(caller.query_one::<String>(&open, &[]), change);
        assert_eq!(opened.unwrap(), expected);
        assert_eq!(caller.query_one::<i64>(LOCKS, &[]).await.unwrap(), locks, "{expected}");
    }
}
