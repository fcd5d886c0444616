//! The functions of the database, each in a file of `migration/functions/` that is applied whenever
//! its text changes: the newest text is the only one, and its next change is a diff.
//!
//! Functions are applied after all steps. Servers compare steps alone, so a change that servers
//! depend on also needs a step.

use pg::Client;
pub use pg_migrate::OUTDATED;

use crate::names::{CARRIER_PARAMETER, OWNER_ROLE};

/// A function, and the role that may execute it beside the owner.
struct Function {
    name: &'static str,
    text: &'static str,
    role: &'static str,
    /// Tables refer to it, so it is replaced. The others are dropped first and may change their
    /// parameters.
    is_referenced: bool,
}

macro_rules! functions {
    ($($role:literal, $is_referenced:literal: $($name:literal)*;)*) => {
        [$($(Function {
            name: $name,
            text: include_str!(concat!("../functions/", $name, ".sql")),
            role: $role,
            is_referenced: $is_referenced,
        }),*),*]
    };
}

/// All but those of the session, in the order in which they are applied: a function of the language
/// `sql` follows those that it calls.
const FUNCTIONS: &[Function] = &functions! {
    "", true: "app.touch_updated_at" "app.record_change" "app.mirror_row"
        "app.record_cascade" "app.record_directory_change" "auth.record_user_change" "auth.copy_suspension"
        "app.refresh_changed_lookup" "billing.note_exceptions" "billing.count_days";
    "tenantry_app, tenantry_system", true: "audit.current_actor_name";
    "", false: "app.refresh_lookup" "app.placement_schema" "app.placement_lock" "auth.user_lock"
        "app.open_session" "auth.is_proven" "auth.open_message" "auth.identity_digest" "auth.record_user_event"
        "auth.record_identity_change" "auth.resolve_request"
        "audit.partitions";
    "tenantry_app", false: "auth.open_request" "auth.reopen_request" "auth.enter_new_organization"
        "auth.enter_invited_organization" "auth.refresh_role" "auth.viewer_memberships"
        "auth.viewer_identities" "auth.unlink_identity" "auth.rename_viewer" "auth.find_invitations"
        "auth.provision_user" "auth.claim_idempotency_key" "auth.store_response" "app.claim_slug"
        "app.retire_slugs" "app.schema_problems" "app.stale_copies";
    "tenantry_system", false: "auth.enter_organization" "auth.register_proof_key" "auth.read_user"
        "auth.copy_user" "auth.pending_user_changes" "auth.delete_user_changes"
        "app.database_name" "app.find_organization" "app.due_outbox" "app.backlog"
        "app.delete_processed" "app.accept_organization"
        "app.pending_directory_changes" "app.delete_directory_changes"
        "app.apply_directory_changes" "billing.add_calls" "billing.receive_stripe_event" "billing.claim_stripe_event"
        "billing.finish_stripe_event" "billing.find_organization" "audit.ensure_partitions";
};

impl Function {
    fn sql(&self) -> String {
        let Self { name, text, role, is_referenced } = self;
        let drop = format!("DROP FUNCTION IF EXISTS {name};\n");
        let drop = if *is_referenced { "" } else { &drop };
        let grant = format!("GRANT EXECUTE ON FUNCTION {name} TO {role};\n");
        let grant = if role.is_empty() { "" } else { &grant };
        format!(
            "{drop}{text}REVOKE ALL ON FUNCTION {name} FROM PUBLIC, tenantry_app, tenantry_system;\n{grant}"
        )
    }
}

const PARAMETER: &str = include_str!("../functions/session.parameter.sql");
const SETTINGS: &str = include_str!("../functions/session.settings.sql");

/// The functions that the tables of the baseline refer to. It creates them before its tables, so
/// their bodies name no table, unless PostgreSQL resolves it when the function runs.
pub(crate) fn before_tables() -> String {
    let triggers = FUNCTIONS.iter().filter(|f| f.is_referenced && f.role.is_empty());
    SETTINGS.to_owned() + &triggers.map(|function| function.text).collect::<String>()
}

/// The names and the texts of the functions that this program knows.
#[must_use]
pub fn texts() -> (Vec<String>, Vec<String>) {
    FUNCTIONS.iter().map(|function| (function.name.to_owned(), function.sql())).unzip()
}

/// All functions. First those that return and set the session of a transaction: which of two
/// variants applies depends on the rights of the owner, so servers do not compare them.
pub(crate) async fn all(connection: &Client) -> pg::Result<(Vec<String>, Vec<String>)> {
    let may_set = "SELECT has_parameter_privilege($1, $2, 'SET')";
    let may_set: bool = connection.query_one(may_set, &[&OWNER_ROLE, &CARRIER_PARAMETER]).await?;
    let session = if may_set { PARAMETER } else { SETTINGS };
    let (mut names, mut texts) = texts();
    names.insert(0, "session".to_owned());
    texts.insert(0, session.to_owned());
    Ok((names, texts))
}
