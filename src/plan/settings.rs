//! The operator's settings of plans.

/// The settings of plans.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an organization keeps its plan after a failed payment.
    pub grace: chrono::Duration,
}
