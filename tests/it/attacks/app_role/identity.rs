//! Impersonation: an attacker opens a session as another user, or takes over that user's account.

use super::{ACME, DENIED, GLOBEX, GLOBEX_OWNER, Injected};
use crate::support::{App, app::token, database::Database, placement};

async fn outcome(injected: &mut Injected, arguments: &str) -> String {
    injected.text(&format!("SELECT outcome FROM auth.open_request({arguments})")).await
}

#[tokio::test]
async fn a_session_needs_a_proof_from_a_server() {
    let database = Database::create().await;
    let genuine = database.proven("globex-owner", "globex", 0).await;
    let forged = [
        "'', 'globex-owner', 'globex', NULL, NULL".to_owned(),
        "'', 'globex-owner', 'globex', NULL, NULL, 'shared', NULL, extract(epoch FROM now())::bigint, sha256('guess')"
            .to_owned(),
        "'', 'globex-owner', 'globex', NULL, NULL, 'shared', NULL, NULL, NULL".to_owned(),
        // The proof for one caller is invalid for another caller and for another address.
        genuine.replace("globex-owner", "globex-admin"),
        genuine.replace("'globex'", "'acme'"),
        genuine.replace("NULL, NULL", "'globex', NULL"),
        genuine.replace("NULL, NULL", "NULL, 'a@example.com'"),
        // It is also invalid for a token issued at another time.
        genuine.replace("'shared', NULL", "'shared', now()"),
    ];
    for arguments in forged {
        let mut injected = Injected::new(&database).await;
        assert_eq!(outcome(&mut injected, &arguments).await, "UNPROVEN", "{arguments}");
        injected.reaches_no_other_tenant(&arguments).await;
        let still = injected.text("SELECT app.current_organization()::text").await;
        assert!(["", ACME].contains(&&*still), "a rejected opening can only end the session");
        injected.run("ROLLBACK").await.unwrap();
    }
    let mut injected = Injected::new(&database).await;
    assert_eq!(outcome(&mut injected, &genuine).await, "OK", "the test signs proofs as servers do");
}

#[tokio::test]
async fn a_reopened_session_needs_its_own_proof_and_unchanged_rows() {
    if !placement::all_are_shared() {
        return;
    }
    let database = Database::create().await;
    let genuine = database.reopening("globex-owner", "globex").await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    let version = genuine.split('\'').nth(7).unwrap();
    let (rows, _start) = version.rsplit_once(' ').unwrap();
    let forged = [
        genuine.replace("globex-owner", "globex-admin"),
        genuine.replace(GLOBEX, ACME),
        genuine.replace(rows, "     "),
        genuine.replace("auth.reopen_request('', ", "auth.reopen_request('x', "),
        format!("auth.reopen_request('', 'globex-owner', '{GLOBEX}', '{version}', NULL, NULL)"),
    ];
    for call in forged {
        let mut injected = Injected::begin(&database, begin).await;
        assert_eq!(injected.text(&format!("SELECT {call}::text")).await, "false", "{call}");
        injected.reaches_no_other_tenant(&call).await;
        injected.run("ROLLBACK").await.unwrap();
    }
    let reopen = format!("SELECT {genuine}::text");
    let mut injected = Injected::new(&database).await;
    assert_eq!(injected.text(&reopen).await, "false", "a transaction that may write is opened");
    let mut injected = Injected::begin(&database, begin).await;
    assert_eq!(injected.text(&reopen).await, "true", "the test signs proofs as servers do");
    assert_eq!(injected.text("SELECT app.current_organization()::text").await, GLOBEX);
    for change in [
        "UPDATE auth.identities SET profile = '{}' WHERE subject = 'globex-owner'",
        "UPDATE auth.users SET suspended_at = now() WHERE id = (SELECT user_id FROM auth.identities WHERE subject = 'globex-owner')",
        "UPDATE auth.organization_members SET role = role",
        "UPDATE app.organizations SET slug = slug",
        "UPDATE app.organizations SET name = name",
        "INSERT INTO billing.organization_features (organization_id, feature) SELECT id, 'projects' FROM app.organizations",
        "UPDATE billing.organization_billing SET plan = plan",
        "INSERT INTO app.placements (organization_id, placement) SELECT id, 'shared' FROM app.organizations
             ON CONFLICT (organization_id) DO UPDATE SET placement = app.placements.placement",
        "UPDATE app.placements SET suspension = 'full', suspended_at = now()",
        "UPDATE app.placements SET moving_to = 'schema'",
        "DELETE FROM app.placements",
        "DELETE FROM billing.organization_billing",
        "DELETE FROM auth.organization_members WHERE role <> 'owner' OR organization_id = (SELECT id FROM app.organizations WHERE slug = 'globex')",
    ] {
        let before = database.reopening("globex-owner", "globex").await;
        let mut injected = Injected::begin(&database, begin).await;
        assert_eq!(injected.text(&format!("SELECT {before}::text")).await, "true", "{change}");
        injected.run("ROLLBACK").await.unwrap();
        database.execute(change).await;
        let mut injected = Injected { connection: database.connect_app().await };
        injected.run(begin).await.unwrap();
        assert_eq!(injected.text(&format!("SELECT {before}::text")).await, "false", "{change}");
        let current = injected.text("SELECT coalesce(app.current_organization()::text, '')").await;
        assert_eq!(current, "", "{change}");
        // An opening of a suspended or moving organization returns no version to reopen with.
        database
            .execute("UPDATE auth.users SET suspended_at = NULL; UPDATE app.placements SET suspension = NULL, suspended_at = NULL, moving_to = NULL")
            .await;
    }
}

#[tokio::test]
async fn a_session_is_not_reopened_while_its_organization_moves() {
    if !placement::all_are_shared() {
        return;
    }
    let database = Database::create().await;
    let moves = format!(
        "INSERT INTO app.placements (organization_id, placement, moving_to) VALUES ('{GLOBEX}', 'shared', 'schema')"
    );
    for (change, expected) in [("SELECT", "true"), (&moves, "false")] {
        database.execute(change).await;
        // The end of a move leaves these rows as they are, so their transactions do not show it.
        let version = format!(
            "SELECT concat(i.xmin, ' ', m.xmin, ' ', l.xmin, ' ', pg_postmaster_start_time())
             FROM auth.identities i JOIN auth.organization_members m USING (user_id)
                 JOIN app.organization_lookup l USING (organization_id)
             WHERE i.subject = 'globex-owner' AND l.organization_id = '{GLOBEX}'"
        );
        let version: String = database.exactly(&version).await;
        let reopen = database.reopening_with("globex-owner", GLOBEX, &version).await;
        let mut injected =
            Injected::begin(&database, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await;
        assert_eq!(injected.text(&format!("SELECT {reopen}::text")).await, expected, "{change}");
        injected.run("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_proof_is_valid_for_five_minutes() {
    let database = Database::create().await;
    for (age, expected) in
        [(0, "OK"), (240, "OK"), (-240, "OK"), (420, "CLOCKS_DIFFER"), (-420, "CLOCKS_DIFFER")]
    {
        let arguments = database.proven("acme-owner", "acme", age).await;
        let mut injected = Injected::new(&database).await;
        assert_eq!(outcome(&mut injected, &arguments).await, expected, "{age} seconds");
        injected.run("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_was_not_registered_recently_proves_nothing() {
    let database = Database::create().await;
    let arguments = database.proven("acme-owner", "acme", 0).await;
    database
        .execute(
            "ALTER TABLE auth.proof_keys DISABLE TRIGGER touch_updated_at;
             UPDATE auth.proof_keys SET updated_at = now() - interval '31 days'",
        )
        .await;
    let connection = database.connect_app().await;
    let sql = format!("SELECT outcome FROM auth.open_request({arguments})");
    let outcome: String = connection.query_one(&sql, &[]).await.unwrap();
    assert_eq!(outcome, "UNPROVEN");
}

#[tokio::test]
async fn provisioning_does_not_take_over_an_account() {
    let app = App::start().await;
    let mut injected = Injected::new(&app.database).await;
    for proof in ["0, ''", "extract(epoch FROM now())::bigint, sha256('guess')", "NULL, NULL"] {
        let provision = format!(
            "SELECT auth.provision_user('', 'intruder', 'globex-owner@example.com', NULL, now(), 'verified-email', {proof})"
        );
        assert_eq!(injected.attempt(&provision).await, Err(DENIED.to_owned()), "{proof}");
    }
    injected.run("COMMIT").await.unwrap();
    // The attacker's own token is valid and leads to a separate account.
    let intruder = app.client(None, Some(token("intruder")));
    let id = intruder.data("{ viewer { id memberships { slug } } }").await;
    assert_ne!(id["viewer"]["id"], GLOBEX_OWNER);
    assert_eq!(id["viewer"]["memberships"], serde_json::json!([]));
}

#[tokio::test]
async fn an_invitation_gives_no_access_to_another_user() {
    let database = Database::create().await;
    let invitation = |email: &str, token: &str, inviter: &str| {
        format!(
            "INSERT INTO auth.invitations (organization_id, email, role, token_hash, invited_by, expires_at)
             VALUES ('{GLOBEX}', '{email}', 'member', sha256('{token}'), {inviter}, now() + interval '1 day');"
        )
    };
    let owner = format!("'{GLOBEX_OWNER}'");
    database.execute(&invitation("other@example.com", "other", &owner)).await;
    let mut injected = Injected::new(&database).await;
    let own = |token, inviter| invitation("acme-owner@example.com", token, inviter);
    let enter = |token: &str| {
        format!(
            "SELECT organization_id::text FROM auth.enter_invited_organization(sha256('{token}'))"
        )
    };
    assert_eq!(injected.text(&enter("other")).await, "");
    injected.reaches_no_other_tenant("an invitation of another user").await;
    // Nor may its inviter have lost the permission since.
    database.execute(&own("orphan", "NULL")).await;
    assert_eq!(injected.text(&enter("orphan")).await, "");
    // The caller's own invitation is what the token is for.
    database.execute("DELETE FROM auth.invitations WHERE email = 'acme-owner@example.com'").await;
    database.execute(&own("own", &owner)).await;
    assert_eq!(injected.text(&enter("own")).await, GLOBEX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_registers_its_key_again_when_the_database_has_lost_it() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    for _ in 0..3 {
        app.database.execute("DELETE FROM auth.proof_keys").await;
        let data = owner.data("{ organization { slug } }").await;
        assert_eq!(data["organization"]["slug"], "acme");
        let create = "mutation { createProject(input: { name: \"x\" }) { project { name } } }";
        app.database.execute("DELETE FROM auth.proof_keys").await;
        owner.data(create).await;
    }
}
