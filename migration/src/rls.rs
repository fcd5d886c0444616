//! "Make this table tenant-owned": the row-level security, policies, grants and triggers of a table
//! as SQL text.
//!
//! Policies read the session of the transaction only, never tables, so that they stay cheap and
//! cannot recurse. The sub-select makes PostgreSQL read it once for a statement. Where the session
//! is carried is the matter of two functions, which PostgreSQL inlines: see
//! `functions/carrier.privileged.sql`.

use crate::{APP_ROLE, OWNER_ROLE, SYSTEM_ROLE};

/// The organization of the current transaction, as an expression; NULL, so no rows, when there is
/// none.
pub(crate) const CURRENT_ORGANIZATION: &str = "(SELECT app.current_organization())";

/// The user of the current transaction, as an expression.
pub(crate) const CURRENT_USER: &str = "(SELECT auth.current_user_id())";

/// The organization of the current transaction in steps before `m0022_roles`, which replaces it.
pub(crate) const SETTING_ORGANIZATION: &str =
    "(SELECT nullif(current_setting('app.current_org_id', true), '')::uuid)";

/// The user of the current transaction in steps before `m0022_roles`, which replaces it.
pub(crate) const SETTING_USER: &str =
    "(SELECT nullif(current_setting('app.current_user_id', true), '')::uuid)";

/// What a role may do with a table; each verb gets a grant and a policy of its own.
#[derive(Clone, Copy)]
pub(crate) enum Verb {
    Select,
    Insert,
    Update,
    Delete,
}

use Verb::{Delete, Insert, Select, Update};

pub(crate) const ALL: &[Verb] = &[Select, Insert, Update, Delete];
pub(crate) const KEEP: &[Verb] = &[Select, Insert, Update];
pub(crate) const APPEND: &[Verb] = &[Select, Insert];

impl Verb {
    fn sql(self) -> &'static str {
        match self {
            Select => "SELECT",
            Insert => "INSERT",
            Update => "UPDATE",
            Delete => "DELETE",
        }
    }

    /// The clauses of a policy for this verb that hold a row to `condition`.
    fn clauses(self, condition: &str) -> String {
        match self {
            Select | Delete => format!("USING ({condition})"),
            Insert => format!("WITH CHECK ({condition})"),
            Update => format!("USING ({condition}) WITH CHECK ({condition})"),
        }
    }
}

/// Protects a tenant table: the app role meets only rows whose `column` is the current
/// organization.
pub(crate) fn tenant(table: &str, column: &str, verbs: &[Verb]) -> String {
    let condition = format!("{column} = {CURRENT_ORGANIZATION}");
    protect(table) + &allow(table, APP_ROLE, verbs, &condition)
}

/// As [`tenant`], in steps before `m0022_roles`.
pub(crate) fn tenant_by_setting(table: &str, column: &str, verbs: &[Verb]) -> String {
    let condition = format!("{column} = {SETTING_ORGANIZATION}");
    protect(table) + &allow(table, APP_ROLE, verbs, &condition)
}

/// Lets background work use `verbs` on the rows of the organization that it has entered.
pub(crate) fn system(table: &str, column: &str, verbs: &[Verb]) -> String {
    allow(table, SYSTEM_ROLE, verbs, &format!("{column} = {CURRENT_ORGANIZATION}"))
}

/// Protects a table of the control plane: out of the app role's reach unless `allow` says more.
pub(crate) fn protect(table: &str) -> String {
    format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n")
}

/// Lets `role` use `verbs` on the rows that meet `condition`.
pub(crate) fn allow(table: &str, role: &str, verbs: &[Verb], condition: &str) -> String {
    let policies = verbs.iter().map(|verb| {
        let privilege = if role == OWNER_ROLE {
            String::new()
        } else {
            format!("GRANT {} ON {table} TO {role};\n", verb.sql())
        };
        policy(table, role, *verb, condition) + &privilege
    });
    policies.collect()
}

/// The policy alone, for a role that is granted the verb on some columns.
pub(crate) fn policy(table: &str, role: &str, verb: Verb, condition: &str) -> String {
    let (sql, clauses) = (verb.sql(), verb.clauses(condition));
    let name = format!("{role}_{}", sql.to_lowercase());
    format!("CREATE POLICY {name} ON {table} FOR {sql} TO {role} {clauses};\n")
}

/// FORCE binds the owner as well, so what a `SECURITY DEFINER` function does needs a policy for the
/// owner.
pub(crate) fn definer(table: &str, verbs: &[Verb]) -> String {
    allow(table, OWNER_ROLE, verbs, "true")
}

/// Keeps `updated_at` true whatever writes the row.
pub(crate) fn touch(table: &str) -> String {
    format!(
        "CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table}
             FOR EACH ROW EXECUTE FUNCTION app.touch_updated_at();\n"
    )
}

/// Writes down what changes in a table of organizations while one of them is moved. `key` is the
/// table's primary key.
pub(crate) fn noted(table: &str, key: &str) -> String {
    let arguments = key.split(", ").map(|column| format!("'{column}'")).collect::<Vec<_>>();
    // Costs a comparison where nothing is on its way.
    format!(
        "CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
             WHEN (current_setting('app.moving', true) = 'on') EXECUTE FUNCTION app.note_change({});\n",
        arguments.join(", ")
    )
}
