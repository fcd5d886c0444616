//! Plans: the catalogue, which plan an organization has in effect, and whether it allows one more.
//!
//! Limits come from the database, never from code. Knows no other area: who counts hands the number
//! over.

mod feature;
mod graphql;
mod loader;
mod ops;

pub use feature::Feature;
pub use graphql::{Plan, PlanFeature, PlanQuery};
pub use ops::{
    Allowance, EffectiveAllowance, Lock, allowances, current, default_plan, effective_allowance,
    find, find_by_price, fingerprint, lock, lock_alone, require,
};
