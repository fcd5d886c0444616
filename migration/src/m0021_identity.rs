//! Identities know when their tokens were issued, erased identities leave a tombstone, and users
//! and organizations can be suspended.
//!
//! Every column stands in a row that the opening of a request reads anyway.

use crate::rls::{self, Verb};

crate::step!("m0021_identity", sql());

const COLUMNS: &str = r"
ALTER TABLE auth.identities
    ADD COLUMN issued_at  timestamptz,
    ADD COLUMN not_before timestamptz;
COMMENT ON COLUMN auth.identities.issued_at IS
    'When the token was issued that changed something last. Null: that token did not say; updated_at counts.';
COMMENT ON COLUMN auth.identities.not_before IS
    'Tokens issued until then are refused: their user was erased at that time.';

ALTER TABLE auth.users ADD COLUMN suspended_at timestamptz;

ALTER TABLE app.placements
    ADD COLUMN suspension   text CHECK (suspension IN ('full', 'read-only')),
    ADD COLUMN suspended_at timestamptz,
    ADD CONSTRAINT placements_suspended CHECK ((suspension IS NULL) = (suspended_at IS NULL));
COMMENT ON COLUMN app.placements.suspension IS
    'In the control database and, for an organization in a dedicated database, there as well.';

-- Digests alone: an erased user leaves nothing that names them.
CREATE TABLE auth.erased_identities (
    identity   bytea PRIMARY KEY CHECK (octet_length(identity) = 32),
    erased_at  timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN auth.erased_identities.identity IS 'See auth.identity_digest.';

-- Identities that a user has taken away: they do not join that user again.
CREATE TABLE auth.unlinked_identities (
    identity   bytea NOT NULL CHECK (octet_length(identity) = 32),
    user_id    uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity, user_id)
);
CREATE INDEX ON auth.unlinked_identities (user_id);

-- As before, and dedicated databases learn of suspensions.
DROP TRIGGER note_person ON auth.users;
CREATE TRIGGER note_person AFTER UPDATE OF email, name, suspended_at ON auth.users FOR EACH ROW
    WHEN ((OLD.email, OLD.name, OLD.suspended_at) IS DISTINCT FROM (NEW.email, NEW.name, NEW.suspended_at))
    EXECUTE FUNCTION auth.note_person();
";

fn sql() -> String {
    let (erased, unlinked) = ("auth.erased_identities", "auth.unlinked_identities");
    [
        COLUMNS.to_owned(),
        rls::protect(erased),
        rls::touch(erased),
        rls::definer(erased, &[Verb::Select, Verb::Insert, Verb::Update]),
        rls::protect(unlinked),
        rls::touch(unlinked),
        rls::definer(unlinked, &[Verb::Select, Verb::Insert]),
    ]
    .concat()
}
