//! An event of Stripe that changes nothing keeps the reason: servers need the new
//! `billing.finish_stripe_event`.

crate::step!("m0025_stripe_reasons", SQL.to_owned());

const SQL: &str = "
COMMENT ON COLUMN billing.stripe_events.error IS
    'Why the event was not applied. With processed_at it is done with, without it Stripe sends it again.';
";
