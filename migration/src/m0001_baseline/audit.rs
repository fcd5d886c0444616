//! The audit log: append-only for servers, and without foreign keys, because it outlives what it
//! describes. Actor and time of an entry come from the session, not from the writer.

use crate::audit_partitions;

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
);
CREATE INDEX ON audit.audit_logs (organization_id, actor_id, created_at, id);
CREATE INDEX ON audit.audit_logs (organization_id, resource_id, created_at, id);
";

pub(super) fn sql() -> String {
    ACTOR_NAME.to_owned() + TABLE + &audit_partitions::access()
}
