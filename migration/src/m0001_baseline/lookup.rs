//! `app.organization_lookup`: one row per organization with the columns that `auth.open_request`
//! reads. One table costs less to plan and to initialize than four. Triggers keep the copies, and
//! the self-check compares them.

use crate::{
    rls::{self, ALL},
    step::Change,
};

const LOOKUP: &str = "
CREATE TABLE app.organization_lookup (
    organization_id      uuid PRIMARY KEY REFERENCES app.organizations ON DELETE CASCADE,
    slug                 text UNIQUE,
    name                 text NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    generation           bigint,
    billing_version      timestamptz,
    plan                 text,
    status               billing.subscription_status,
    has_subscription     boolean,
    period_start         timestamptz,
    period_end           timestamptz,
    trial_ends_at        timestamptz,
    cancel_at_period_end boolean,
    past_due_since       timestamptz,
    paid_until           timestamptz,
    has_exceptions       boolean
);
COMMENT ON TABLE app.organization_lookup IS 
    'Copies of columns of app.organizations, app.placements and billing.organization_billing. Triggers keep them: see app.refresh_lookup.';
COMMENT ON COLUMN app.organization_lookup.slug IS
    'Null if the organization is not in the shared tables, is suspended or is moving.';
CREATE TRIGGER refresh_lookup AFTER INSERT OR UPDATE OR DELETE ON app.placements FOR EACH ROW
    EXECUTE FUNCTION app.refresh_changed_lookup();
CREATE TRIGGER refresh_lookup AFTER INSERT OR DELETE ON app.database FOR EACH STATEMENT
    EXECUTE FUNCTION app.refresh_changed_lookup();
";

const TRIGGERS: &str = "
CREATE TRIGGER refresh_lookup AFTER INSERT OR UPDATE ON organizations FOR EACH ROW
    EXECUTE FUNCTION app.refresh_changed_lookup();
CREATE TRIGGER refresh_lookup AFTER INSERT OR UPDATE OR DELETE ON organization_billing FOR EACH ROW
    EXECUTE FUNCTION app.refresh_changed_lookup();
";

pub(super) fn changes() -> [Change; 2] {
    let lookup = LOOKUP.to_owned() + &rls::control("app.organization_lookup", ALL);
    [Change::once(lookup), Change::each(TRIGGERS)]
}
