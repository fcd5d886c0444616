//! Plans: the catalogue of features and plans, the plan in effect for an organization, and the
//! check that a limit is not exceeded.
//!
//! Features and limits come from the database, never from code. The module depends on no other
//! area: callers declare the keys of their features and pass in their counts.

mod allowance;
mod area;
mod graphql;
mod loader;
mod meter_catalogue;
mod ops;
mod price;
mod settings;

pub use allowance::require_flag;
pub use area::PlanArea;
pub use settings::Settings;

pub(crate) use allowance::{
    Allowance, Allowances, EffectiveAllowance, allowance_of_count, allowances, effective_allowance,
    period_of, require,
};
pub(crate) use graphql::{Feature, Plan, plan_by_key};
pub(crate) use meter_catalogue::MeterCatalogue;
pub(crate) use ops::{
    ENTITLEMENTS, Lock, current, default_plan, find, fingerprint, is_own_plan_in_effect, lock,
    lock_alone, lock_if_several_changes,
};
pub(crate) use price::{PriceInterval, find_price, prices_for_sale, ranked_prices};
