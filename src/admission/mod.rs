//! Admission: what a request must pass before it may cost anything. Turns bound what runs at the same time for one organization or
//! person, so that nobody starves the others (`gate.rs`); attempts bound what could be guessed (`attempts.rs`).

mod attempts;
mod gate;

use std::time::Duration;

pub use attempts::Attempts;
pub use gate::{Gates, Turn};

/// How much one organization, person or address may ask for.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Requests that run at the same time.
    pub running: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// How long one waits.
    pub wait: Duration,
}
