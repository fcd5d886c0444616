//! Admission: what a request must pass before it may cost anything. Turns bound what runs at the same time for one organization or
//! person, so that nobody starves the others (`gate.rs`); attempts bound what could be guessed (`attempts.rs`).

mod attempts;
mod gate;

pub use attempts::Attempts;
pub use gate::{AdmissionLimits, Gates, Turn};
