//! People and the identities they sign in with: one for all organizations.

use crate::{
    APP_ROLE,
    rls::{self, SETTING_ORGANIZATION, SETTING_USER, Verb},
};

crate::step!("m0002_auth", sql());

const TABLES: &str = "
CREATE TABLE auth.users (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email      text UNIQUE CHECK (email = lower(email)),
    name       text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN auth.users.email IS 'Verified, or null.';

CREATE TABLE auth.identities (
    issuer     text NOT NULL,
    subject    text NOT NULL,
    user_id    uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
COMMENT ON COLUMN auth.identities.issuer IS 'The empty string when tokens carry none.';
CREATE INDEX ON auth.identities (user_id);
";

fn sql() -> String {
    [
        TABLES.to_owned(),
        rls::protect("auth.users"),
        rls::touch("auth.users"),
        rls::definer("auth.users", &[Verb::Select, Verb::Insert]),
        rls::protect("auth.identities"),
        rls::touch("auth.identities"),
        rls::definer("auth.identities", &[Verb::Select, Verb::Insert]),
    ]
    .concat()
}

/// Oneself, and whoever is a member of the current organization. Applied once the members exist.
pub(crate) fn users_visible() -> String {
    let condition = format!(
        "id = {SETTING_USER} OR EXISTS (
            SELECT FROM auth.organization_members m
            WHERE m.organization_id = {SETTING_ORGANIZATION} AND m.user_id = users.id)"
    );
    rls::allow("auth.users", APP_ROLE, &[Verb::Select], &condition)
}
