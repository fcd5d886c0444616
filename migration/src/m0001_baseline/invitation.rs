//! Invitations to organizations.

use crate::rls::{self, ALL, Verb::Select};

const TABLE: &str = "
CREATE TABLE auth.invitations (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
    email           text NOT NULL CHECK (email = lower(email)),
    role            auth.org_role NOT NULL,
    token_hash      bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    rotation        integer NOT NULL DEFAULT 0,
    invited_by      uuid REFERENCES auth.users ON DELETE SET NULL,
    expires_at      timestamptz NOT NULL,
    accepted_at     timestamptz,
    revoked_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id)
);
COMMENT ON COLUMN auth.invitations.token_hash IS 'SHA-256 of the token, which is not stored.';
CREATE UNIQUE INDEX invitations_open ON auth.invitations (organization_id, email)
    WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX ON auth.invitations (organization_id, created_at DESC, id DESC);
CREATE INDEX ON auth.invitations (invited_by);
-- For auth.find_invitations only. Statements of an organization name the address itself, and use
-- the index above.
CREATE INDEX ON auth.invitations (lower(email)) WHERE accepted_at IS NULL AND revoked_at IS NULL;
";

pub(super) fn sql() -> String {
    let table = "auth.invitations";
    [
        TABLE.to_owned(),
        rls::tenant(table, "organization_id, id", ALL),
        rls::system(table, "organization_id", &[Select]),
        rls::touch(table),
    ]
    .concat()
}
