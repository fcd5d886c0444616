//! Plans: the catalogue, the plan in effect for an organization, and the check that a limit
//! is not exceeded.
//!
//! Limits come from the database, never from code. The module depends on no other area: callers
//! pass in their counts.

mod feature;
mod graphql;
mod loader;
mod ops;
mod price;
mod settings;

pub use feature::Feature;
pub use graphql::{Plan, PlanFeature, PlanQuery};
pub use ops::{
    Allowance, ENTITLEMENTS, EffectiveAllowance, Lock, allowances, current, default_plan,
    effective_allowance, find, fingerprint, lock, lock_alone, lock_if_several_changes, require,
};
pub use price::{PlanPrice, PriceInterval, find_price, prices_for_sale};
pub use settings::Settings;
