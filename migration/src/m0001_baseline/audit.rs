//! The audit log: append-only for servers, and without foreign keys, because it outlives what it
//! describes. Actor and time of an entry come from the session, not from the writer.
//!
//! It has monthly partitions, `audit_logs_YYYY_MM`, which `audit.ensure_partitions` creates ahead,
//! and `audit_logs_history` for entries from before the installation. `audit_logs_default` takes
//! entries of other months; it should be empty. Only the owner has rights on a partition, to back
//! it up: otherwise the log is reached through `audit.audit_logs` alone.

use crate::{
    names::{APP_ROLE, SYSTEM_ROLE},
    rls::{self, CURRENT_ORGANIZATION, Verb},
    step::register,
    tenant_table::TenantTable,
};

/// Its default needs the table of users, so that this function is created after it.
const ACTOR_NAME: &str = include_str!("../../functions/audit.current_actor_name.sql");

const TABLE: &str = r"
CREATE TABLE audit.audit_logs (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    actor_id        uuid DEFAULT auth.current_user_id(),
    actor_name      text DEFAULT audit.current_actor_name(),
    action          text NOT NULL CHECK (action ~ '^[a-z_]+\.[a-z_]+$'),
    resource_type   text NOT NULL,
    resource_id     uuid,
    metadata        jsonb NOT NULL DEFAULT '{}',
    ip_address      inet,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (organization_id, created_at, id)
) PARTITION BY RANGE (created_at);
CREATE INDEX ON audit.audit_logs (organization_id, actor_id, created_at, id);
CREATE INDEX ON audit.audit_logs (organization_id, resource_id, created_at, id);
CREATE TABLE audit.audit_logs_default PARTITION OF audit.audit_logs DEFAULT;
";

/// Servers may add entries and fill in some of their columns; background work names its reason in
/// place of a user. The owner moves entries between partitions, deletes old ones, and erases names
/// of users.
pub(super) fn sql() -> String {
    let (log, key) = ("audit.audit_logs", "organization_id, created_at, id");
    let condition = format!("organization_id = {CURRENT_ORGANIZATION}");
    let columns = "organization_id, action, resource_type, resource_id, metadata, ip_address";
    [
        ACTOR_NAME.to_owned(),
        TABLE.to_owned(),
        rls::control("audit.audit_logs_default", &[Verb::Select]),
        rls::tenant(log, key, &[Verb::Select]),
        rls::system(log, "organization_id", &[Verb::Select]),
        rls::policy(log, APP_ROLE, Verb::Insert, &condition),
        rls::policy(log, SYSTEM_ROLE, Verb::Insert, &condition),
        format!(
            "GRANT INSERT ({columns}) ON {log} TO {APP_ROLE};
             GRANT INSERT ({columns}, actor_name) ON {log} TO {SYSTEM_ROLE};\n"
        ),
        register(&TenantTable { name: log.to_owned(), key: key.to_owned(), mirrored: false }),
    ]
    .concat()
}
