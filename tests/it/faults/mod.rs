//! Faults under load. PostgreSQL is stopped, killed, cut off, filled up and replaced, and the
//! server itself is stopped, while clients of several tenants write and read. Each test uses a
//! separate cluster and the released program, and then compares the clients' responses with the
//! database. Long variants: `cargo test -- --ignored faults`, for `FAULT_SECONDS` each.

mod conflict;
mod failover;
mod load;
mod lost_connections;
mod moving;
mod pooler;
mod rejected_writes;
mod restart;
mod shutdown;
mod unreachable;
mod verification;

use std::time::{Duration, Instant};

/// The end of a scenario: rounds of faults start until then, at least one.
#[derive(Clone, Copy)]
struct Until(Instant);

impl Until {
    /// One round.
    fn once() -> Self {
        Self(Instant::now())
    }

    /// `FAULT_SECONDS`, or a minute.
    fn long() -> Self {
        let seconds = std::env::var("FAULT_SECONDS").ok().and_then(|text| text.parse().ok());
        Self(Instant::now() + Duration::from_secs(seconds.unwrap_or(60)))
    }

    /// Sleeps until the end, but at least this long.
    async fn wait(self, at_least: Duration) {
        let left = self.0.saturating_duration_since(Instant::now());
        tokio::time::sleep(left.max(at_least)).await;
    }

    fn has_ended(self) -> bool {
        Instant::now() >= self.0
    }
}
