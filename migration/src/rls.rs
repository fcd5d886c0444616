//! Row-level security, policies, grants and triggers of a table, as SQL text.
//!
//! Policies read the session of the transaction and no table, so that they are cheap and cannot
//! recurse. The sub-select makes PostgreSQL read it once per statement. Two functions return the
//! session, which PostgreSQL inlines: see `functions/session.parameter.sql`. Released steps use
//! this module, so what it returns for them stays the same.

use crate::names::{APP_ROLE, OWNER_ROLE, SYSTEM_ROLE};

/// The organization of the current transaction, as an expression. NULL, so no rows, without one.
pub(crate) const CURRENT_ORGANIZATION: &str = "(SELECT app.current_organization())";

/// The user of the current transaction, as an expression.
pub(crate) const CURRENT_USER: &str = "(SELECT auth.current_user_id())";

/// A command on a table; each has its own grant and policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

use Verb::{Delete, Insert, Select, Update};

/// Every command.
pub const ALL: &[Verb] = &[Select, Insert, Update, Delete];
/// Rows are never deleted.
pub const KEEP: &[Verb] = &[Select, Insert, Update];
/// Rows are never changed.
pub const QUEUE: &[Verb] = &[Select, Insert, Delete];

impl Verb {
    fn sql(self) -> &'static str {
        match self {
            Select => "SELECT",
            Insert => "INSERT",
            Update => "UPDATE",
            Delete => "DELETE",
        }
    }

    /// The clauses of a policy that restrict rows to `condition`.
    fn clauses(self, condition: &str) -> String {
        match self {
            Select | Delete => format!("USING ({condition})"),
            Insert => format!("WITH CHECK ({condition})"),
            Update => format!("USING ({condition}) WITH CHECK ({condition})"),
        }
    }
}

/// Protects a table whose rows belong to organizations: the app role may use `verbs` on the rows
/// of the current organization, the owner's functions and commands may do everything, and changes
/// are recorded while the organization is moved. `key` is the primary key, the organization first.
pub(crate) fn tenant(table: &str, key: &str, verbs: &[Verb]) -> String {
    let (organization, _) = key.split_once(", ").unwrap_or((key, ""));
    let condition = format!("{organization} = {CURRENT_ORGANIZATION}");
    control(table, ALL) + &allow(table, APP_ROLE, verbs, &condition) + &record_changes(table, key)
}

/// Lets background work use `verbs` on the rows of the organization that it has entered.
pub(crate) fn system(table: &str, column: &str, verbs: &[Verb]) -> String {
    allow(table, SYSTEM_ROLE, verbs, &format!("{column} = {CURRENT_ORGANIZATION}"))
}

/// Protects a table that only the owner's functions and commands use. FORCE binds the owner as
/// well, so each of the `verbs` that they use needs a policy.
pub(crate) fn control(table: &str, verbs: &[Verb]) -> String {
    protect(table) + &allow(table, OWNER_ROLE, verbs, "true")
}

/// Enables and forces row-level security: without policies no role sees a row.
pub(crate) fn protect(table: &str) -> String {
    format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n")
}

/// Lets `role` use `verbs` on the rows that meet `condition`.
pub(crate) fn allow(table: &str, role: &str, verbs: &[Verb], condition: &str) -> String {
    let policies = verbs.iter().map(|verb| {
        let grant = match role {
            OWNER_ROLE => String::new(),
            role => format!("GRANT {} ON {table} TO {role};\n", verb.sql()),
        };
        policy(table, role, *verb, condition) + &grant
    });
    policies.collect()
}

/// The policy alone, for a role that has the privilege on some columns.
pub(crate) fn policy(table: &str, role: &str, verb: Verb, condition: &str) -> String {
    let (sql, clauses) = (verb.sql(), verb.clauses(condition));
    let name = format!("{role}_{}", sql.to_lowercase());
    format!("CREATE POLICY {name} ON {table} FOR {sql} TO {role} {clauses};\n")
}

/// Sets `updated_at` with every update.
pub(crate) fn touch(table: &str) -> String {
    format!(
        "CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table}
             FOR EACH ROW EXECUTE FUNCTION app.touch_updated_at();\n"
    )
}

fn record_changes(table: &str, key: &str) -> String {
    let arguments = key.replace(", ", "', '");
    // Costs a comparison while no organization is moved.
    format!(
        "CREATE TRIGGER record_change AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
             WHEN (current_setting('app.moving', true) = 'on') EXECUTE FUNCTION app.record_change('{arguments}');\n"
    )
}
