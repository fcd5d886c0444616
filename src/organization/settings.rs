//! The operator's settings of organizations.

/// The settings of organizations.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many organizations a user may own before creating another one is refused.
    pub max_owned: u32,
}
