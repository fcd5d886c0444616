//! Invitations to organizations.

use crate::{
    rls::Verb::Select,
    table::{OnDelete::SetNull, Reference, Table},
};

pub(super) const TABLE: Table = Table {
    name: "auth.invitations",
    resource: "invitation",
    columns: "
    email       text NOT NULL CHECK (email = lower(email)),
    role        auth.org_role NOT NULL,
    token_hash  bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    rotation    integer NOT NULL DEFAULT 0,
    invited_by  uuid,
    expires_at  timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at  timestamptz",
    references: &[Reference::global("invited_by", "auth.users", SetNull)],
    system: &[Select],
    mirrored: true,
    more: "
COMMENT ON COLUMN invitations.token_hash IS 'SHA-256 of the token, which is not stored.';
CREATE UNIQUE INDEX invitations_open ON invitations (organization_id, email)
    WHERE accepted_at IS NULL AND revoked_at IS NULL;
-- For auth.find_invitations only. Statements of an organization name the address itself, and use
-- the index above.
CREATE INDEX ON invitations (lower(email)) WHERE accepted_at IS NULL AND revoked_at IS NULL;
",
    ..Table::RESOURCE
};
