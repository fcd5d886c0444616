//! Organizations, their slugs, their members and the invitations to them.

use crate::{
    m0002_auth::users_visible,
    rls::{self, Verb},
};

crate::step!("m0003_organization", sql());

const TABLES: &str = "
CREATE TABLE app.organizations (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text NOT NULL,
    slug       text NOT NULL UNIQUE
               CHECK (slug ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(slug) BETWEEN 2 AND 48),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- No foreign key: a slug stays reserved after its organization is gone.
CREATE TABLE app.organization_slugs (
    slug            text PRIMARY KEY,
    organization_id uuid NOT NULL,
    retired_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN app.organization_slugs.retired_at IS 'Null while the slug is the current one.';
CREATE INDEX ON app.organization_slugs (organization_id);

CREATE TABLE auth.organization_members (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
    user_id         uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    role            auth.org_role NOT NULL,
    invited_by      uuid REFERENCES auth.users ON DELETE SET NULL,
    joined_at       timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, user_id)
);
CREATE INDEX ON auth.organization_members (organization_id, created_at DESC, id DESC);
CREATE INDEX ON auth.organization_members (user_id);
CREATE INDEX ON auth.organization_members (invited_by);

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
COMMENT ON COLUMN auth.invitations.token_hash IS 'SHA-256 of the token; the token itself is never stored.';
CREATE UNIQUE INDEX invitations_open ON auth.invitations (organization_id, email)
    WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX ON auth.invitations (organization_id, created_at DESC, id DESC);
CREATE INDEX ON auth.invitations (invited_by);
";

fn sql() -> String {
    [
        TABLES.to_owned(),
        rls::tenant_by_setting("app.organizations", "id", rls::ALL),
        rls::definer("app.organizations", &[Verb::Select]),
        rls::touch("app.organizations"),
        rls::protect("app.organization_slugs"),
        rls::definer("app.organization_slugs", &[Verb::Select, Verb::Insert, Verb::Update]),
        rls::touch("app.organization_slugs"),
        rls::tenant_by_setting("auth.organization_members", "organization_id", rls::ALL),
        rls::definer("auth.organization_members", &[Verb::Select]),
        rls::touch("auth.organization_members"),
        rls::tenant_by_setting("auth.invitations", "organization_id", rls::ALL),
        rls::touch("auth.invitations"),
        users_visible(),
    ]
    .concat()
}
