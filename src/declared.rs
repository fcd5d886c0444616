//! The complete list of each kind of thing that areas declare.
//!
//! The floor uses these lists without importing the areas: `areas.rs` implements the trait.

/// A kind of thing that areas declare, for example a permission.
pub trait Declared: Sized + 'static {
    /// What all areas declare, in the order of the areas.
    fn all() -> &'static [Self];
}
