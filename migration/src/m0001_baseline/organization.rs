//! Organizations, their slugs and their members, and which users a request sees.

use crate::{
    APP_ROLE, SYSTEM_ROLE,
    rls::{self, ALL, CURRENT_ORGANIZATION, CURRENT_USER, Verb::Select},
};

const ORGANIZATIONS: &str = "
CREATE TABLE app.organizations (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text NOT NULL,
    slug       text NOT NULL UNIQUE
               CHECK (slug ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(slug) BETWEEN 2 AND 48),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
";

const SLUGS: &str = "
-- No foreign key: a slug stays reserved after its organization was deleted.
CREATE TABLE app.organization_slugs (
    slug            text PRIMARY KEY,
    organization_id uuid NOT NULL,
    claimed_by      uuid,
    retired_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN app.organization_slugs.claimed_by IS
    'Counts the slugs of a user: each is unavailable to others for 90 days after it was retired.';
COMMENT ON COLUMN app.organization_slugs.retired_at IS 'Null for the current slug.';
CREATE INDEX ON app.organization_slugs (organization_id);
CREATE INDEX ON app.organization_slugs (claimed_by);
";

const MEMBERS: &str = "
CREATE TYPE auth.org_role AS ENUM ('owner', 'admin', 'member', 'viewer');

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
";

pub(super) fn sql() -> String {
    let (organizations, slugs, members) =
        ("app.organizations", "app.organization_slugs", "auth.organization_members");
    // The current user, and the members of the current organization.
    let visible = format!(
        "id = {CURRENT_USER} OR EXISTS (
            SELECT FROM auth.organization_members m
            WHERE m.organization_id = {CURRENT_ORGANIZATION} AND m.user_id = users.id)"
    );
    [
        ORGANIZATIONS.to_owned(),
        rls::tenant(organizations, "id", ALL),
        rls::system(organizations, "id", &[Select]),
        rls::touch(organizations),
        SLUGS.to_owned(),
        rls::control(slugs, ALL),
        rls::touch(slugs),
        MEMBERS.to_owned(),
        rls::tenant(members, "organization_id, id", ALL),
        rls::system(members, "organization_id", &[Select]),
        rls::touch(members),
        rls::allow("auth.users", APP_ROLE, &[Select], &visible),
        rls::allow("auth.users", SYSTEM_ROLE, &[Select], &visible),
    ]
    .concat()
}
