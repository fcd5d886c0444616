CREATE TABLE auth.users (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email        text UNIQUE CHECK (email = lower(email)),
    name         text,
    named_at     timestamptz,
    picture      text,
    suspended_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN auth.users.email IS 'Verified, or null.';
COMMENT ON COLUMN auth.users.named_at IS 'When the user chose the name. Null: the name is that of the tokens.';
CREATE INDEX users_suspended ON auth.users (id) WHERE suspended_at IS NOT NULL;
CREATE TRIGGER record_user_change AFTER UPDATE ON auth.users FOR EACH ROW
    WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION auth.record_user_change();
CREATE TRIGGER copy_suspension AFTER UPDATE OF suspended_at ON auth.users FOR EACH ROW
    EXECUTE FUNCTION auth.copy_suspension();

CREATE TABLE auth.identities (
    issuer       text NOT NULL,
    subject      text NOT NULL,
    user_id      uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    email        text,
    profile      jsonb,
    issued_at    timestamptz,
    not_before   timestamptz,
    suspended_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
COMMENT ON COLUMN auth.identities.issuer IS 'The empty string when tokens have no issuer.';
COMMENT ON COLUMN auth.identities.email IS
    'The verified address of the newest token. A user with two identities may have two addresses, so a change is detected here.';
COMMENT ON COLUMN auth.identities.profile IS
    'The name and the picture of the newest token that has them. Null: no token had any.';
COMMENT ON COLUMN auth.identities.issued_at IS
    'When the last recorded token was issued. Null: the token had no such time, and updated_at is used.';
COMMENT ON COLUMN auth.identities.not_before IS
    'Tokens issued until then are refused: their user was erased at that time.';
COMMENT ON COLUMN auth.identities.suspended_at IS 'That of the user, for openings, which do not read the user.';
CREATE INDEX ON auth.identities (user_id);
CREATE TRIGGER copy_suspension BEFORE INSERT OR UPDATE OF user_id ON auth.identities FOR EACH ROW
    EXECUTE FUNCTION auth.copy_suspension();

-- Digests only: nothing that remains of an erased user identifies them.
CREATE TABLE auth.erased_identities (
    identity   bytea PRIMARY KEY CHECK (octet_length(identity) = 32),
    erased_at  timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN auth.erased_identities.identity IS 'See auth.identity_digest.';

-- Identities that a user has unlinked: they are not linked to that user again.
CREATE TABLE auth.unlinked_identities (
    identity   bytea NOT NULL CHECK (octet_length(identity) = 32),
    user_id    uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity, user_id)
);
CREATE INDEX ON auth.unlinked_identities (user_id);

-- The two padded blocks of HMAC-SHA256 (RFC 2104).
CREATE TABLE auth.proof_keys (
    inner_block bytea PRIMARY KEY CHECK (length(inner_block) = 64),
    outer_block bytea NOT NULL CHECK (length(outer_block) = 64),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
