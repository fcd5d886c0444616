//! The catalogue of features and plans, the billing state, the exceptions and the usage of each
//! organization, and the events received from Stripe.

use crate::{
    rls::{
        self, ALL, KEEP, QUEUE,
        Verb::{Select, Update},
    },
    step::Change,
    table::{OnDelete::Refuse, Reference, Table},
};

const FEATURES: &str = "
CREATE TYPE billing.feature_kind AS ENUM ('flag', 'count', 'meter');
CREATE TYPE billing.feature_period AS ENUM ('month', 'billing_period');

CREATE TABLE billing.features (
    feature     text PRIMARY KEY CHECK (feature ~ '^[a-z][a-z0-9_]{0,62}$'),
    kind        billing.feature_kind NOT NULL,
    name        text NOT NULL,
    unit        text,
    description text,
    period      billing.feature_period,
    position    integer NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT features_period CHECK ((kind = 'meter') = (period IS NOT NULL))
);
COMMENT ON COLUMN billing.features.unit IS 'The singular of what is counted. Null: the name says it.';
COMMENT ON COLUMN billing.features.period IS 'When a meter starts again at 0.';

INSERT INTO billing.features (feature, kind, name, unit, description, period, position) VALUES
    ('team_members', 'count', 'Team members', 'member',
     'The members of an organization, together with its open invitations.', NULL, 2),
    ('api_calls_per_month', 'meter', 'API calls per month', 'API call',
     'The operations executed in a calendar month (UTC).', 'month', 3);
GRANT SELECT ON billing.features TO tenantry_app, tenantry_system;
";

const PLANS: &str = "
CREATE TABLE billing.plans (
    plan            text PRIMARY KEY,
    name            text NOT NULL,
    -- Deferred, because a position may pass from one plan to another.
    position        integer NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED,
    is_default      boolean NOT NULL DEFAULT false,
    archived_at     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT plans_default_on_offer CHECK (NOT is_default OR archived_at IS NULL)
);
COMMENT ON COLUMN billing.plans.archived_at IS
    'Not null: the plan is no longer offered. Organizations that have it keep it.';
CREATE UNIQUE INDEX plans_one_default ON billing.plans (is_default) WHERE is_default;

CREATE TABLE billing.plan_prices (
    stripe_price_id text PRIMARY KEY,
    plan            text NOT NULL REFERENCES billing.plans ON DELETE CASCADE,
    interval        text NOT NULL CHECK (interval IN ('month', 'year')),
    currency        text CHECK (currency ~ '^[a-z]{3}$'),
    unit_amount     integer CHECK (unit_amount >= 0),
    per_seat        boolean NOT NULL DEFAULT false,
    for_sale        boolean NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE billing.plan_prices IS
    'A retired price stays, because subscriptions at it still lead to the plan.';
COMMENT ON COLUMN billing.plan_prices.unit_amount IS
    'In the smallest unit of the currency, for example cents. For display: Stripe decides.';
CREATE INDEX ON billing.plan_prices (plan);

CREATE TABLE billing.plan_features (
    plan        text NOT NULL REFERENCES billing.plans ON DELETE CASCADE,
    feature     text NOT NULL REFERENCES billing.features,
    -- At most 2^53 - 1: JSON numbers are exact up to there.
    limit_value bigint CHECK (limit_value BETWEEN 0 AND 9007199254740991),
    enabled     boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan, feature)
);
CREATE INDEX ON billing.plan_features (feature);
COMMENT ON COLUMN billing.plan_features.limit_value IS 'Null: unlimited. A missing row denies.';

INSERT INTO billing.plans (plan, name, position, is_default) VALUES
    ('free', 'Free', 1, true), ('pro', 'Pro', 2, false), ('enterprise', 'Enterprise', 3, false);
INSERT INTO billing.plan_features (plan, feature, limit_value) VALUES
    ('free', 'team_members', 1), ('free', 'api_calls_per_month', 1000),
    ('pro', 'team_members', 10), ('pro', 'api_calls_per_month', 50000),
    ('enterprise', 'team_members', NULL), ('enterprise', 'api_calls_per_month', NULL);

-- The same for all organizations, so without row-level security.
GRANT SELECT ON billing.plans, billing.plan_prices, billing.plan_features TO tenantry_app, tenantry_system;
";

const STATUS: &str = "CREATE TYPE billing.subscription_status AS ENUM
    ('active', 'trialing', 'past_due', 'canceled', 'unpaid', 'incomplete', 'incomplete_expired', 'paused')";

const BILLING: Table = Table {
    name: "billing.organization_billing",
    columns: "
    stripe_customer_id     text UNIQUE,
    stripe_subscription_id text UNIQUE,
    status                 billing.subscription_status NOT NULL DEFAULT 'active',
    plan                   text NOT NULL,
    period_start           timestamptz,
    period_end             timestamptz,
    trial_ends_at          timestamptz,
    cancel_at_period_end   boolean NOT NULL DEFAULT false,
    past_due_since         timestamptz,
    seats                  integer CHECK (seats >= 0),
    collection_paused      boolean NOT NULL DEFAULT false,
    paid_until             timestamptz,
    stripe_event_at        timestamptz,
    has_exceptions         boolean NOT NULL DEFAULT false",
    references: &[Reference::global("plan", "billing.plans", Refuse)],
    verbs: KEEP,
    system: &[Select, Update],
    mirrored: true,
    more: "
COMMENT ON TABLE organization_billing IS
    'The row is also the lock of the organization: a transaction that counts takes it FOR NO KEY UPDATE first.';
COMMENT ON COLUMN organization_billing.past_due_since IS
    'The start of the grace period, which later changes do not extend.';
COMMENT ON COLUMN organization_billing.seats IS
    'The quantity of the subscription, if its price is per seat.';
COMMENT ON COLUMN organization_billing.paid_until IS
    'The end of the last paid period, while Stripe voids invoices. Then the default plan takes effect.';
COMMENT ON COLUMN organization_billing.has_exceptions IS
    'Whether billing.organization_features has rows of the organization.';
",
    ..Table::KEYED
};

const ORGANIZATION_FEATURES: Table = Table {
    name: "billing.organization_features",
    key: "organization_id, feature",
    columns: "
    -- No foreign key: dropping a dedicated schema would lock the catalogue.
    feature     text NOT NULL,
    limit_value bigint CHECK (limit_value BETWEEN 0 AND 9007199254740991),
    enabled     boolean NOT NULL DEFAULT true,
    valid_until timestamptz,
    reason      text",
    verbs: &[Select],
    system: &[Select],
    more: "
COMMENT ON TABLE organization_features IS
    'Exceptions: until valid_until, a row replaces that of the plan.';
CREATE TRIGGER note_exceptions AFTER INSERT OR UPDATE OR DELETE ON organization_features FOR EACH ROW
    WHEN (current_setting('app.replicating', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION billing.note_exceptions();
",
    ..Table::KEYED
};

const USAGE: Table = Table {
    name: "billing.usage",
    key: "organization_id, feature, period_start",
    columns: "
    feature      text NOT NULL,
    period_start timestamptz NOT NULL,
    period_end   timestamptz,
    used         bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    days         bigint[] NOT NULL DEFAULT '{}'",
    verbs: KEEP,
    system: KEEP,
    more: "
COMMENT ON COLUMN usage.period_end IS 'Null: the period is a calendar month.';
COMMENT ON COLUMN usage.days IS
    'What was counted in each 24 hours since period_start, up to the last ones with usage.';
CREATE TRIGGER count_days BEFORE INSERT OR UPDATE OF used ON usage
    FOR EACH ROW EXECUTE FUNCTION billing.count_days();
",
    ..Table::KEYED
};

const USAGE_KEYS: Table = Table {
    name: "billing.usage_keys",
    key: "organization_id, feature, key",
    columns: "
    feature text NOT NULL,
    key     text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    amount  bigint NOT NULL",
    verbs: QUEUE,
    more: "
COMMENT ON TABLE usage_keys IS
    'The idempotency keys of counted usage, with which a repetition counts once. A new key deletes old ones after a day.';
CREATE INDEX usage_keys_created ON usage_keys (organization_id, created_at);
",
    ..Table::KEYED
};

const STRIPE_EVENTS: &str = "
CREATE TABLE billing.stripe_events (
    id           text PRIMARY KEY,
    type         text NOT NULL,
    created      timestamptz NOT NULL,
    payload      jsonb NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz,
    error        text,
    attempts     integer NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN billing.stripe_events.error IS
    'Why the event was not applied. If processed_at is null, Stripe sends the event again.';
CREATE INDEX ON billing.stripe_events (received_at) WHERE processed_at IS NULL;
";

pub(super) fn changes() -> Vec<Change> {
    let plans = [
        FEATURES.to_owned(),
        PLANS.to_owned(),
        rls::touch("billing.features"),
        rls::touch("billing.plans"),
        rls::touch("billing.plan_prices"),
        rls::touch("billing.plan_features"),
    ];
    let events = "billing.stripe_events";
    vec![
        Change::once(plans.concat()),
        Change::once(STATUS),
        Change::Table(BILLING),
        Change::Table(ORGANIZATION_FEATURES),
        Change::Table(USAGE),
        Change::Table(USAGE_KEYS),
        Change::once(STRIPE_EVENTS.to_owned() + &rls::control(events, ALL) + &rls::touch(events)),
    ]
}
