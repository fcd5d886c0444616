//! Idempotency keys, with which a client repeats a mutation without executing it twice. Functions
//! alone read and write them, and only those of the current user in the current organization.

use crate::rls::{self, ALL};

const TABLE: &str = "
CREATE TABLE auth.idempotency_keys (
    user_id         uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    -- NULL: the request has no organization. There is no foreign key, because it would lock the
    -- organization's row before its lock is taken.
    organization_id uuid,
    key             text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    -- SHA-256 of the request.
    fingerprint     bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- Encrypted by the server. NULL: the mutation has committed a part, and continues.
    response        bytea,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (user_id, key, organization_id)
);
-- Without a primary key, PostgreSQL would refuse changes while a publication has all tables.
ALTER TABLE auth.idempotency_keys REPLICA IDENTITY FULL;
CREATE INDEX idempotency_keys_organization ON auth.idempotency_keys (organization_id);
CREATE INDEX idempotency_keys_created ON auth.idempotency_keys (created_at);
";

pub(super) fn sql() -> String {
    let table = "auth.idempotency_keys";
    TABLE.to_owned() + &rls::control(table, ALL) + &rls::touch(table)
}
