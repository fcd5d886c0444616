//! The functions that run with their owner's rights, each called about another tenant: what it tells and what it changes. A new
//! one fails here until somebody has decided.

use sqlx::{AssertSqlSafe, Row};

use super::{ACME, GLOBEX, GLOBEX_OWNER, Injection, tables};
use crate::support::database::Database;

struct Door {
    name: &'static str,
    /// As acme's owner, about globex.
    call: &'static str,
    tells: Option<&'static str>,
    /// Whether anything changes that is not acme's.
    changes: bool,
}

const fn door(
    name: &'static str,
    call: &'static str,
    tells: Option<&'static str>,
    changes: bool,
) -> Door {
    Door { name, call, tells, changes }
}

const DOORS: [Door; 34] = [
    // How much waits in all organizations together.
    door(
        "app.backlog",
        "SELECT letters || ' ' || stripe_events FROM app.backlog()",
        Some("1 1"),
        false,
    ),
    // The keys of the current person in the current organization alone.
    door(
        "auth.claim_idempotency_key",
        "SELECT outcome FROM auth.claim_idempotency_key('key', sha256('request'), interval '1 hour')",
        Some("CLAIMED"),
        false,
    ),
    door(
        "auth.keep_response",
        "SELECT auth.keep_response('00000000-0000-4000-8000-00000000000b', 'key', 'forged')::text",
        None,
        false,
    ),
    // That a slug is taken, as everybody is told who wants to have it.
    door("app.claim_slug", "SELECT app.claim_slug('globex')", Some("TAKEN"), false),
    // Which organizations have letters that are due; of the letters their ids.
    door(
        "app.due_outbox",
        "SELECT string_agg(organization_id::text, ' ') FROM app.due_outbox('invitation_mail', now(), 10)",
        Some(GLOBEX),
        false,
    ),
    // The id behind any slug.
    door(
        "app.find_organization",
        "SELECT app.find_organization('globex')::text",
        Some(GLOBEX),
        false,
    ),
    // What is old enough goes, whoever calls.
    door("app.forget_processed", "SELECT app.forget_processed()::text", Some("1"), true),
    // Which schemas are out of order; the catalogue tells everybody which there are.
    door(
        "app.schema_problems",
        "SELECT count(*)::text FROM app.schema_problems('m0014_move')",
        Some("0"),
        false,
    ),
    // Leads into any organization, as the setting by itself would: it trusts the server to have asked for one's place there.
    door(
        "auth.enter_organization",
        "SELECT (home IS NOT NULL)::text FROM auth.enter_organization('00000000-0000-4000-8000-00000000000b', NULL)",
        Some("true"),
        false,
    ),
    // The slugs of the current organization alone.
    door("app.retire_slugs", "SELECT app.retire_slugs()::text", None, false),
    // The partitions of coming months; a plain table has none.
    door(
        "audit.ensure_partitions",
        "SELECT count(*)::text FROM audit.ensure_partitions()",
        Some("0"),
        false,
    ),
    // Whose an invitation is, for whoever has the hash of its token.
    door(
        "auth.find_invitation",
        "SELECT organization_id::text FROM auth.find_invitation(sha256('g'))",
        Some(GLOBEX),
        false,
    ),
    // Anybody's place in any organization: it trusts the server to have looked at the token.
    door(
        "auth.open_request",
        "SELECT outcome || ' ' || role FROM auth.open_request('', 'globex-owner', 'globex', NULL, NULL)",
        Some("OK owner"),
        false,
    ),
    // Makes whoever is named the person with this address: it trusts the server to have looked at the token.
    door(
        "auth.provision_user",
        "SELECT auth.provision_user('', 'intruder', 'globex-owner@example.com', NULL, now(), 'verified-email')::text",
        Some(GLOBEX_OWNER),
        true,
    ),
    // The identities of the current person alone.
    door(
        "auth.viewer_identities",
        "SELECT string_agg(subject, ' ') FROM auth.viewer_identities()",
        Some("acme-owner"),
        false,
    ),
    // The same: another person's has no id here.
    door(
        "auth.unlink_identity",
        "SELECT auth.unlink_identity(encode(substring(sha256('0:globex-owner') FOR 16), 'hex')::uuid, '', 'acme-owner')",
        Some("NOT_FOUND"),
        false,
    ),
    door(
        "auth.viewer_memberships",
        "SELECT string_agg(slug, ' ') FROM auth.viewer_memberships()",
        Some("acme"),
        false,
    ),
    door("auth.viewer_ownerships", "SELECT auth.viewer_ownerships()::text", Some("1"), false),
    // What Stripe said, for whoever knows the event's id.
    door(
        "billing.claim_stripe_event",
        "SELECT payload::text FROM billing.claim_stripe_event('evt_globex')",
        Some("{\"customer\": \"cus_globex\"}"),
        false,
    ),
    // Whose a customer of Stripe's is.
    door(
        "billing.find_organization",
        "SELECT billing.find_organization('cus_globex', NULL)::text",
        Some(GLOBEX),
        false,
    ),
    // An event that is marked is applied no more.
    door(
        "billing.finish_stripe_event",
        "SELECT billing.finish_stripe_event('evt_globex', NULL)::text",
        None,
        true,
    ),
    // An event that is written down is not applied by that: the server looked at its signature before.
    door(
        "billing.receive_stripe_event",
        "SELECT billing.receive_stripe_event('evt_forged', 'x', now(), '{}')::text",
        Some("false"),
        true,
    ),
    // The same, without some databases.
    door(
        "app.due_outbox",
        "SELECT string_agg(organization_id::text, ' ') FROM app.due_outbox('invitation_mail', now(), 10, '{eu}')",
        Some(GLOBEX),
        false,
    ),
    // What the control database calls this one: nothing, it is that.
    door("app.database_name", "SELECT app.database_name()", None, false),
    // Who has changed where; here nobody has.
    door("app.directory_news", "SELECT count(*)::text FROM app.directory_news(10)", Some("0"), false),
    door("app.directory_followed", "SELECT app.directory_followed('{1}')::text", None, false),
    door("auth.people_news", "SELECT count(*)::text FROM auth.people_news(10, '{}')", Some("0"), false),
    door("auth.people_followed", "SELECT auth.people_followed('{1}')::text", None, false),
    // The rows of organizations that live in another database, and of no others.
    door(
        "app.follow_directory",
        "SELECT count(*)::text FROM app.follow_directory('eu', '[{\"table\": \"app.organizations\", \"row\": null,
            \"organization\": \"00000000-0000-4000-8000-00000000000b\", \"key\": {\"id\": \"00000000-0000-4000-8000-00000000000b\"}}]')",
        Some("0"),
        false,
    ),
    // A slug for an organization of one's own alone.
    door(
        "app.reserve_slug",
        "SELECT app.reserve_slug('00000000-0000-4000-8000-00000000000b', 'free-slug')",
        Some("TAKEN"),
        false,
    ),
    // The end of a move that was begun.
    door(
        "app.take_in",
        "SELECT app.take_in('00000000-0000-4000-8000-00000000000b', 0)::text",
        Some("false"),
        false,
    ),
    door(
        "app.take_back",
        "SELECT app.take_back('00000000-0000-4000-8000-00000000000b', 1)::text",
        Some("false"),
        false,
    ),
    // Who anybody is, for whoever has their id: the server brings it to the database where they want to go.
    door(
        "auth.copy_of_person",
        "SELECT auth.copy_of_person('00000000-0000-4000-8000-0000000000b1') -> 'user' ->> 'email'",
        Some("globex-owner@example.com"),
        false,
    ),
    // Nobody is brought to the control database (see below).
    door(
        "auth.bring_person",
        "SELECT has_function_privilege('auth.bring_person(jsonb)', 'EXECUTE')::text",
        Some("true"),
        false,
    ),
];

async fn furnish(database: &Database) {
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

/// A digest of all rows that are not acme's.
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
async fn every_function_with_its_owner_s_rights_is_decided_on() {
    let database = Database::create().await;
    let mut connection = database.connect_admin().await;
    let found = sqlx::query(AssertSqlSafe(
        "SELECT n.nspname || '.' || p.proname AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.prosecdef AND p.prorettype <> 'trigger'::regtype ORDER BY 1",
    ))
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let found: Vec<String> = found.iter().map(|row| row.get("name")).collect();
    let mut decided: Vec<&str> = DOORS.iter().map(|door| door.name).collect();
    decided.sort_unstable();
    assert_eq!(found, decided, "what does it tell and change of another tenant?");
}

#[tokio::test]
async fn what_each_function_tells_and_changes_of_another_tenant() {
    for Door { name, call, tells, changes } in DOORS {
        let database = Database::create().await;
        furnish(&database).await;
        let before = foreign_rows(&database).await;
        let mut injection = Injection::in_acme(&database).await;
        assert_eq!(injection.text(call).await.as_deref(), tells, "{name}");
        injection.run("COMMIT").await;
        assert_eq!(foreign_rows(&database).await != before, changes, "{name}");
    }
}

#[tokio::test]
async fn without_a_setting_no_function_is_about_anybody() {
    let database = Database::create().await;
    let mut fresh = Injection::fresh(&database).await;
    for (call, tells) in [
        ("SELECT string_agg(slug, ' ') FROM auth.viewer_memberships()", None),
        ("SELECT auth.viewer_ownerships()::text", Some("0")),
        (
            "SELECT outcome FROM auth.open_request('', 'nobody', 'acme', NULL, NULL)",
            Some("UNKNOWN_IDENTITY"),
        ),
    ] {
        assert_eq!(fresh.text(call).await.as_deref(), tells, "{call}");
    }
    let (code, _) = fresh.attempt("SELECT auth.bring_person('{}')").await.unwrap_err();
    assert_eq!(code, "P0001");
    // A slug needs an organization to be of.
    let (code, _) = fresh.attempt("SELECT app.claim_slug('free-slug')").await.unwrap_err();
    assert_eq!(code, "23502");
}

#[tokio::test]
async fn triggers_with_their_owner_s_rights_cannot_be_called_or_put_elsewhere() {
    let database = Database::create().await;
    let mut connection = database.connect_admin().await;
    let triggers: Vec<String> = sqlx::query_scalar(
        "SELECT p.oid::regproc::text FROM pg_proc p WHERE p.prosecdef AND p.prorettype = 'trigger'::regtype ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(
        triggers,
        ["app.mirror_row", "app.note_change", "app.note_directory_change", "auth.note_person"]
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
