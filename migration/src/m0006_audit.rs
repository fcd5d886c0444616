//! The audit trail: append-only for the app role, and without foreign keys, because it outlives
//! what it describes.

use crate::rls;

crate::step!("m0006_audit", sql());

const TABLES: &str = "
CREATE TABLE audit.audit_logs (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    actor_id        uuid,
    actor_name      text,
    action          text NOT NULL CHECK (action ~ '^[a-z_]+\\.[a-z_]+$'),
    resource_type   text NOT NULL,
    resource_id     uuid,
    metadata        jsonb NOT NULL DEFAULT '{}',
    ip_address      inet,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, created_at, id)
);
CREATE INDEX ON audit.audit_logs (organization_id, actor_id, created_at, id);
";

fn sql() -> String {
    [TABLES.to_owned(), rls::tenant_by_setting("audit.audit_logs", "organization_id", rls::APPEND)]
        .concat()
}
