//! Organizations, their slugs and their members, and which users a request sees.

use crate::{
    names::{APP_ROLE, SYSTEM_ROLE},
    rls::{self, ALL, CURRENT_ORGANIZATION, CURRENT_USER, Verb::Select},
    step::Change,
    table::{
        OnDelete::{Cascade, SetNull},
        Reference, Table,
    },
};

const ORGANIZATIONS: Table = Table {
    name: "app.organizations",
    key: "id",
    resource: "organization",
    columns: "
    name text NOT NULL,
    slug text NOT NULL UNIQUE
         CHECK (slug ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(slug) BETWEEN 2 AND 48)",
    system: &[Select],
    mirrored: true,
    ..Table::KEYED
};

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

const ROLES: &str = "CREATE TYPE auth.org_role AS ENUM ('owner', 'admin', 'member', 'viewer')";

const MEMBERS: Table = Table {
    name: "auth.organization_members",
    resource: "member",
    columns: "
    user_id    uuid NOT NULL,
    role       auth.org_role NOT NULL,
    invited_by uuid,
    joined_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organization_id, user_id)",
    references: &[
        Reference::global("user_id", "auth.users", Cascade),
        Reference::global("invited_by", "auth.users", SetNull),
    ],
    system: &[Select],
    mirrored: true,
    ..Table::RESOURCE
};

pub(super) fn changes() -> [Change; 5] {
    let slugs = "app.organization_slugs";
    // The current user, and the members of the current organization.
    let visible = format!(
        "id = {CURRENT_USER} OR EXISTS (
            SELECT FROM auth.organization_members m
            WHERE m.organization_id = {CURRENT_ORGANIZATION} AND m.user_id = users.id)"
    );
    let see_users = [APP_ROLE, SYSTEM_ROLE]
        .map(|role| rls::allow("auth.users", role, &[Select], &visible))
        .concat();
    [
        Change::Table(ORGANIZATIONS),
        Change::once(SLUGS.to_owned() + &rls::control(slugs, ALL) + &rls::touch(slugs)),
        Change::once(ROLES),
        Change::Table(MEMBERS),
        Change::once(see_users),
    ]
}
