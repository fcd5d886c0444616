-- No foreign key: the audit log outlives its organization, in the place where it is.
CREATE TABLE app.placements (
    organization_id uuid PRIMARY KEY,
    placement       text NOT NULL,
    version         text,
    generation      bigint NOT NULL DEFAULT 0,
    moving_to       text,
    moved_at        timestamptz,
    move_metadata   jsonb,
    old_placement   text,
    keep_old_until  timestamptz,
    suspension      text CHECK (suspension IN ('full', 'read-only')),
    suspended_at    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT placements_placement CHECK (placement ~ '^(shared|schema|remote|database:[a-z][a-z0-9_-]{0,39})$'),
    CONSTRAINT placements_moving_to
        CHECK (moving_to ~ '^(shared|schema|remote|database:[a-z][a-z0-9_-]{0,39})$' AND moving_to <> placement),
    CONSTRAINT placements_old_placement
        CHECK (old_placement ~ '^(shared|schema|remote|database:[a-z][a-z0-9_-]{0,39})$' AND old_placement <> placement),
    CONSTRAINT placements_suspended CHECK ((suspension IS NULL) = (suspended_at IS NULL))
);
COMMENT ON TABLE app.placements IS 'An organization without a row is in the shared tables.';
COMMENT ON COLUMN app.placements.placement IS
    'Remote, in a dedicated database: the control database knows the placement.';
COMMENT ON COLUMN app.placements.version IS 'The newest step of the dedicated schema.';
COMMENT ON COLUMN app.placements.generation IS
    'How often the organization has moved to or from a database. Of two databases that disagree, the higher one is right.';
COMMENT ON COLUMN app.placements.moving_to IS 'Null: no move is in progress.';
COMMENT ON COLUMN app.placements.move_metadata IS
    'The metadata of the audit entry for the move in progress. Not null: all rows were copied.';
COMMENT ON COLUMN app.placements.old_placement IS
    'Where the rows from before the last move still are, at least until keep_old_until.';
COMMENT ON COLUMN app.placements.suspension IS
    'In the control database and, for an organization in a dedicated database, there as well.';

-- Changes in an organization while it is moved.
CREATE TABLE app.pending_changes (
    organization_id uuid NOT NULL,
    number          bigint GENERATED ALWAYS AS IDENTITY,
    table_name      text NOT NULL,
    -- The primary key of the row that was written or deleted.
    key             jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, number)
);

-- The name by which the control database knows this dedicated database. Empty in the control
-- database.
CREATE TABLE app.database (
    name       text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
    is_only    boolean NOT NULL DEFAULT true UNIQUE CHECK (is_only),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- In a dedicated database: changes that the control database has to copy.
CREATE TABLE app.directory_changes (
    number          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid NOT NULL,
    table_name      text NOT NULL,
    -- The primary key of the row that was written or deleted.
    key             jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON app.directory_changes (organization_id);

-- In the control database: changed users, and the dedicated database that has to copy them.
CREATE TABLE auth.user_changes (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    uuid NOT NULL,
    database   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
