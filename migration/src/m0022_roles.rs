//! Requests and background work get a role each, and what SQL inside a request says of itself
//! counts no more: policies and functions read the session of the transaction from a carrier
//! (`functions/carrier.*`), callers are proven by the server, and audit entries take actor and time
//! from the session.

use crate::{
    APP_ROLE, SYSTEM_ROLE,
    placement::in_schema,
    rls::{self, CURRENT_ORGANIZATION, CURRENT_USER, Verb},
};

crate::step!("m0022_roles", sql());

/// As policies need them from here on; `functions/carrier.*` replaces them.
const CARRIER: &str = "
CREATE FUNCTION app.current_organization() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.current_org_id', true), '')::uuid;
CREATE FUNCTION auth.current_user_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.current_user_id', true), '')::uuid;
GRANT EXECUTE ON FUNCTION app.current_organization, auth.current_user_id TO tenantry_app, tenantry_system;
GRANT USAGE ON SCHEMA app, auth, billing, audit TO tenantry_system;
GRANT SELECT ON billing.plans, billing.plan_features TO tenantry_system;
";

const PROOF_KEYS: &str = "
-- The keys with which servers prove who calls, as the two padded blocks of HMAC-SHA256.
CREATE TABLE auth.proof_keys (
    inner_block   bytea PRIMARY KEY CHECK (length(inner_block) = 64),
    outer_block   bytea NOT NULL CHECK (length(outer_block) = 64),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
";

/// What a request needs no more: it is called by commands and background work, or not at all.
const FUNCTIONS: &str = "
DROP FUNCTION auth.find_invitation;
DROP FUNCTION app.due_outbox(text, timestamptz, integer);
DO $do$
DECLARE
    moved text;
BEGIN
    FOREACH moved IN ARRAY ARRAY[
        'app.backlog', 'app.due_outbox', 'app.forget_processed', 'app.find_organization', 'app.database_name',
        'app.take_in', 'app.take_back', 'app.directory_news', 'app.directory_followed', 'app.follow_directory',
        'auth.copy_of_person', 'auth.people_news', 'auth.people_followed', 'billing.receive_stripe_event',
        'billing.claim_stripe_event', 'billing.finish_stripe_event', 'billing.find_organization', 'audit.ensure_partitions']
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %1$s FROM tenantry_app; GRANT EXECUTE ON FUNCTION %1$s TO tenantry_system', moved);
    END LOOP;
END
$do$;
";

/// An entry says who acted, and when, by itself.
const AUDIT: &str = "
CREATE FUNCTION audit.current_actor_name() RETURNS text LANGUAGE sql STABLE
    RETURN (SELECT coalesce(u.name, u.email) FROM auth.users u WHERE u.id = auth.current_user_id());
GRANT EXECUTE ON FUNCTION audit.current_actor_name TO tenantry_app, tenantry_system;
";

/// The columns of an audit entry that a request may fill in.
const ENTRY: &str = "organization_id, action, resource_type, resource_id, metadata, ip_address";

/// The tables of organizations at this step that background work uses, the column that says whose a
/// row is, and what it does there.
const OF_SYSTEM: [(&str, &str, &[Verb]); 6] = [
    ("app.organizations", "id", &[Verb::Select]),
    ("auth.organization_members", "organization_id", &[Verb::Select]),
    ("auth.invitations", "organization_id", &[Verb::Select]),
    ("billing.organization_billing", "organization_id", &[Verb::Select, Verb::Update]),
    ("billing.usage", "organization_id", rls::KEEP),
    ("app.outbox", "organization_id", &[Verb::Select, Verb::Update]),
];

fn sql() -> String {
    let keys = "auth.proof_keys";
    let all = &[Verb::Select, Verb::Insert, Verb::Update, Verb::Delete];
    let users = format!(
        "id = {CURRENT_USER} OR EXISTS (
            SELECT FROM auth.organization_members m
            WHERE m.organization_id = {CURRENT_ORGANIZATION} AND m.user_id = users.id)"
    );
    [
        CARRIER.to_owned(),
        policies("schemaname IN ('app', 'auth', 'billing', 'audit')"),
        rls::allow("auth.users", SYSTEM_ROLE, &[Verb::Select], &users),
        system(ToOwned::to_owned),
        PROOF_KEYS.to_owned(),
        rls::protect(keys),
        rls::touch(keys),
        rls::definer(keys, all),
        FUNCTIONS.to_owned(),
        AUDIT.to_owned(),
        entries("audit.audit_logs"),
        "DROP POLICY tenantry_app_insert ON audit.audit_logs;\n".to_owned(),
        append("audit.audit_logs"),
    ]
    .concat()
}

/// For a schema that was made before.
pub(crate) fn of_schema(schema: &str) -> String {
    let log = in_schema(schema, "audit.audit_logs");
    [
        format!("GRANT USAGE ON SCHEMA {schema} TO {SYSTEM_ROLE};\n"),
        policies(&format!("schemaname = '{schema}'")),
        system(|table| in_schema(schema, table)),
        entries(&log),
        format!("DROP POLICY tenantry_app_insert ON {log};\n"),
        append(&log),
    ]
    .concat()
}

/// Lets the policies of some schemas read the session through the two functions.
fn policies(schemas: &str) -> String {
    let replaced = |column: &str| {
        let setting = |name: &str| {
            format!(
                r#"(NULLIF(current_setting('app.{name}'::text, true), ''::text))::uuid AS "nullif""#
            )
        };
        format!(
            "replace(replace(p.{column}, $s${}$s$, 'app.current_organization()'), $s${}$s$, 'auth.current_user_id()')",
            setting("current_org_id"),
            setting("current_user_id")
        )
    };
    format!(
        "DO $do$
         DECLARE
             p pg_policies;
         BEGIN
             FOR p IN SELECT * FROM pg_policies WHERE {schemas} AND concat(qual, with_check) ~ 'app\\.current_(org|user)_id' LOOP
                 EXECUTE format('ALTER POLICY %I ON %I.%I', p.policyname, p.schemaname, p.tablename)
                     || coalesce(' USING (' || {} || ')', '') || coalesce(' WITH CHECK (' || {} || ')', '');
             END LOOP;
         END
         $do$;\n",
        replaced("qual"),
        replaced("with_check")
    )
}

fn system(named: impl Fn(&str) -> String) -> String {
    OF_SYSTEM.map(|(table, column, verbs)| rls::system(&named(table), column, verbs)).concat()
}

/// What an audit entry says by itself.
fn entries(log: &str) -> String {
    format!(
        "ALTER TABLE {log} ALTER COLUMN actor_id SET DEFAULT auth.current_user_id(),
             ALTER COLUMN actor_name SET DEFAULT audit.current_actor_name(),
             ALTER COLUMN created_at SET DEFAULT clock_timestamp();
         REVOKE INSERT ON {log} FROM {APP_ROLE};\n"
    )
}

/// Who may add entries to an audit log, and which columns they may fill in. The reason of
/// background work stands where a user's name does.
pub(crate) fn append(log: &str) -> String {
    let condition = format!("organization_id = {CURRENT_ORGANIZATION}");
    let policy = |role: &str, verb: Verb| rls::policy(log, role, verb, &condition);
    [
        policy(APP_ROLE, Verb::Insert),
        policy(SYSTEM_ROLE, Verb::Insert),
        rls::allow(log, SYSTEM_ROLE, &[Verb::Select], &condition),
        format!(
            "GRANT INSERT ({ENTRY}) ON {log} TO {APP_ROLE};
             GRANT INSERT ({ENTRY}, actor_name) ON {log} TO {SYSTEM_ROLE};\n"
        ),
    ]
    .concat()
}
