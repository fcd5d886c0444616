//! The functions that run with their owner's rights, each called about another tenant: what it
//! returns and what it changes. A new function fails the test until it is listed here.

use pg::Row;

use super::{ACME, GLOBEX, GLOBEX_OWNER, Injection, tables};
use crate::support::database::{Database, RowExt};

struct Function {
    name: &'static str,
    /// The call, as acme's owner, about globex.
    call: &'static str,
    returns: Option<&'static str>,
    /// Whether the call changes rows outside acme.
    changes: bool,
}

const fn function(
    name: &'static str,
    call: &'static str,
    returns: Option<&'static str>,
    changes: bool,
) -> Function {
    Function { name, call, returns, changes }
}

/// The settings of a session, with the values of another tenant's owner.
const FORGED: &str =
    "SELECT set_config('app.current_org_id', '00000000-0000-4000-8000-00000000000b', true),
    set_config('app.current_user_id', '00000000-0000-4000-8000-0000000000b1', true),
    set_config('app.current_role', 'owner', true)";

/// Functions that requests may call.
const OF_REQUESTS: [Function; 18] = [
    // The keys of the current user in the current organization only.
    function(
        "auth.claim_idempotency_key",
        "SELECT outcome FROM auth.claim_idempotency_key('key', sha256('request'), interval '1 hour')",
        Some("CLAIMED"),
        false,
    ),
    function(
        "auth.store_response",
        "SELECT auth.store_response('00000000-0000-4000-8000-00000000000b', 'key', 'forged')::text",
        None,
        false,
    ),
    // Whether a slug is taken, which any caller who wants it learns.
    function("app.claim_slug", "SELECT app.claim_slug('globex')", Some("TAKEN"), false),
    // A slug for an organization of the current user only.
    function(
        "app.claim_slug",
        "SELECT app.claim_slug('free-slug', '00000000-0000-4000-8000-00000000000b')",
        Some("TAKEN"),
        false,
    ),
    // Which schemas lack migrations; the catalogue shows which exist.
    function(
        "app.schema_problems",
        "SELECT count(*)::text FROM app.schema_problems('core/0001_baseline')",
        Some("0"),
        false,
    ),
    // Whether a copy is wrong, not which one.
    function(
        "app.stale_copies",
        "SELECT count(*)::text FROM app.stale_copies(true)",
        Some("0"),
        false,
    ),
    // The slugs of the current organization only.
    function("app.retire_slugs", "SELECT app.retire_slugs()::text", None, false),
    // A new organization with a new id.
    function(
        "auth.enter_new_organization",
        "SELECT (auth.enter_new_organization() <> '00000000-0000-4000-8000-00000000000b')::text",
        Some("true"),
        false,
    ),
    // An invitation to another address is not returned, even for the hash of its token.
    function(
        "auth.enter_invited_organization",
        "SELECT organization_id::text FROM auth.enter_invited_organization(sha256('g'))",
        None,
        false,
    ),
    // The same. The server has the hash only of a token that it was given.
    function(
        "auth.find_invitations",
        "SELECT string_agg(organization_name, ' ') FROM auth.find_invitations(NULL)",
        None,
        false,
    ),
    // The name of the current user only.
    function("auth.rename_viewer", "SELECT auth.rename_viewer('Renamed')::text", Some(""), true),
    // The role of the current user in the current organization only.
    function("auth.refresh_role", "SELECT auth.refresh_role()::text", None, false),
    // Without a server's proof for this caller.
    function(
        "auth.open_request",
        "SELECT outcome || coalesce(role, '') FROM auth.open_request('', 'globex-owner', 'globex', NULL, NULL)",
        Some("UNPROVEN"),
        false,
    ),
    // The same, even for the version of the rows.
    function(
        "auth.reopen_request",
        "SELECT auth.reopen_request('', 'globex-owner', '00000000-0000-4000-8000-00000000000b', '', NULL, NULL)::text",
        Some("false"),
        false,
    ),
    // Without a server's proof it raises an error (see below).
    function(
        "auth.provision_user",
        "SELECT has_function_privilege('auth.provision_user(text, text, text, text, timestamptz, text, bigint, bytea)', 'EXECUTE')::text",
        Some("true"),
        false,
    ),
    // The identities of the current user only.
    function(
        "auth.viewer_identities",
        "SELECT string_agg(subject, ' ') FROM auth.viewer_identities()",
        Some("acme-owner"),
        false,
    ),
    // The same: another user's identity has no id here.
    function(
        "auth.unlink_identity",
        "SELECT auth.unlink_identity(encode(substring(sha256('0:globex-owner') FOR 16), 'hex')::uuid, '', 'acme-owner')",
        Some("NOT_FOUND"),
        false,
    ),
    function(
        "auth.viewer_memberships",
        "SELECT string_agg(slug, ' ') FROM auth.viewer_memberships()",
        Some("acme"),
        false,
    ),
];

/// Functions that only background work, webhooks and commands may call.
const OF_SYSTEM: [&str; 21] = [
    "app.backlog()",
    "app.database_name()",
    "app.delete_directory_changes('{1}')",
    "app.pending_directory_changes(10)",
    "app.due_outbox('invitation_mail', now(), 10, '{eu}')",
    "app.find_organization('globex')",
    "app.apply_directory_changes('eu', '[]')",
    "app.delete_processed()",
    "app.accept_organization('00000000-0000-4000-8000-00000000000b', 0)",
    "audit.ensure_partitions()",
    "auth.copy_user('{}')",
    "auth.read_user('00000000-0000-4000-8000-0000000000b1')",
    "auth.enter_organization('00000000-0000-4000-8000-00000000000b')",
    "auth.delete_user_changes('{1}')",
    "auth.pending_user_changes(10, '{}')",
    "auth.register_proof_key(repeat('6', 64)::bytea, repeat('5', 64)::bytea)",
    "billing.add_calls('api_calls_per_month', '{00000000-0000-4000-8000-00000000000b}', ARRAY[now()], '{1}')",
    "billing.claim_stripe_event('evt_globex')",
    "billing.find_organization('cus_globex', NULL)",
    "billing.finish_stripe_event('evt_globex', NULL, true)",
    "billing.receive_stripe_event('evt_forged', 'x', now(), '{}')",
];

async fn add_foreign_rows(database: &Database) {
    // Registers the key of the server's proofs.
    database.opening("acme-owner", "acme").await;
    database
        .execute(&format!(
            "INSERT INTO app.outbox (organization_id, kind) VALUES ('{GLOBEX}', 'invitation_mail');
             INSERT INTO app.outbox (organization_id, kind, processed_at) VALUES ('{GLOBEX}', 'old', now() - interval '1 year');
             INSERT INTO auth.invitations (organization_id, email, role, token_hash, expires_at)
                 VALUES ('{GLOBEX}', 'a@example.com', 'member', sha256('g'), now() + interval '1 day');
             UPDATE billing.organization_billing SET stripe_customer_id = 'cus_globex' WHERE organization_id = '{GLOBEX}';
             INSERT INTO auth.idempotency_keys (user_id, organization_id, key, fingerprint, response)
                 VALUES ('{GLOBEX_OWNER}', '{GLOBEX}', 'key', sha256('request'), 'sealed');
             INSERT INTO billing.stripe_events (id, type, created, payload)
                 VALUES ('evt_globex', 'x', now(), '{{\"customer\": \"cus_globex\"}}')"
        ))
        .await;
}

/// Returns a digest of all rows outside acme.
async fn foreign_rows(database: &Database) -> Vec<String> {
    let mut digests = Vec::new();
    for table in tables(database).await {
        let digest = database
            .value::<String>(&format!(
                "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t
                 WHERE '{ACME}' NOT IN (coalesce(to_jsonb(t)->>'organization_id', ''), coalesce(to_jsonb(t)->>'id', ''))"
            ))
            .await;
        digests.push(format!("{table} {digest}"));
    }
    digests
}

#[tokio::test]
async fn every_definer_function_is_listed() {
    let database = Database::create().await;
    let connection = database.connect_admin().await;
    let found = connection
        .query::<Row>(
            "SELECT n.nspname || '.' || p.proname AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.prosecdef AND p.prorettype <> 'trigger'::regtype ORDER BY 1",
            &[],
        )
        .await
    .unwrap();
    let found: Vec<String> = found.iter().map(|row| row.get("name")).collect();
    let of_system = OF_SYSTEM.map(|call| call.split('(').next().unwrap());
    let mut decided: Vec<&str> =
        OF_REQUESTS.iter().map(|function| function.name).chain(of_system).collect();
    decided.sort_unstable();
    decided.dedup();
    assert_eq!(found, decided, "list what it returns and changes about another tenant");
}

#[tokio::test]
async fn each_function_returns_and_changes_only_what_is_listed_about_another_tenant() {
    for Function { name, call, returns, changes } in OF_REQUESTS {
        let database = Database::create().await;
        add_foreign_rows(&database).await;
        let before = foreign_rows(&database).await;
        let mut injection = Injection::in_acme(&database).await;
        // Forged settings have no effect, even when they contradict the session.
        injection.run(FORGED).await;
        assert_eq!(injection.text(call).await.as_deref(), returns, "{name}");
        injection.run("COMMIT").await;
        assert_eq!(foreign_rows(&database).await != before, changes, "{name}");
    }
}

#[tokio::test]
async fn functions_of_background_work_are_denied() {
    let database = Database::create().await;
    add_foreign_rows(&database).await;
    let before = database.fingerprint().await;
    for mut injection in Injection::both(&database).await {
        for call in OF_SYSTEM {
            injection.all_denied(&[&format!("SELECT {call}")]).await;
        }
        // Only the owner may call the functions that these use.
        injection
            .all_denied(&[
                "SELECT app.set_session('00000000-0000-4000-8000-00000000000b', NULL, 'owner')",
                "SELECT app.open_session('00000000-0000-4000-8000-00000000000b', NULL, 'owner')",
                "SELECT * FROM auth.proof_keys",
            ])
            .await;
        injection.run("COMMIT").await;
    }
    assert_eq!(database.fingerprint().await, before);
}

#[tokio::test]
async fn without_a_session_functions_know_no_user() {
    let database = Database::create().await;
    let mut fresh = Injection::fresh(&database).await;
    for (call, returns) in [
        ("SELECT string_agg(slug, ' ') FROM auth.viewer_memberships()", None),
        (
            "SELECT outcome FROM auth.open_request('', 'nobody', 'acme', NULL, NULL)",
            Some("UNPROVEN"),
        ),
    ] {
        assert_eq!(fresh.text(call).await.as_deref(), returns, "{call}");
    }
    let provision = "SELECT auth.provision_user('', 'intruder', 'a@example.com', NULL, now(), 'verified-email', 0, '')";
    fresh.all_denied(&[provision]).await;
    // A slug needs an organization.
    let (code, _) = fresh.attempt("SELECT app.claim_slug('free-slug')").await.unwrap_err();
    assert_eq!(code, "23502");
}

#[tokio::test]
async fn definer_triggers_cannot_be_called_or_attached_to_other_tables() {
    let database = Database::create().await;
    let connection = database.connect_admin().await;
    let triggers: Vec<String> = connection
        .query(
            "SELECT p.oid::regproc::text FROM pg_proc p WHERE p.prosecdef AND p.prorettype = 'trigger'::regtype ORDER BY 1",
            &[],
        )
        .await
    .unwrap();
    assert_eq!(
        triggers,
        [
            "app.mirror_row",
            "app.record_cascade",
            "app.record_change",
            "app.record_directory_change",
            "app.refresh_changed_lookup",
            "auth.copy_suspension",
            "auth.record_user_change",
            "billing.note_exceptions",
        ]
    );
    for mut injection in Injection::both(&database).await {
        for trigger in &triggers {
            injection
                .all_denied(&[
                    &format!("SELECT {trigger}()"),
                    &format!("CREATE TRIGGER t AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION {trigger}()"),
                ])
                .await;
        }
    }
}
