//! Faults under load: PostgreSQL is stopped, killed, cut off, filled up and replaced, and the
//! server itself is stopped, while clients of several tenants write and read. Each has a cluster of
//! its own and the program as it is shipped, and holds afterwards what clients were told against
//! what the database has. The long variants: `cargo test -- --ignored faults`, for `FAULT_SECONDS`
//! each.

mod conflict;
mod cut;
mod failover;
mod load;
mod moving;
mod pooler;
mod refusal;
mod restart;
mod shutdown;
mod unreachable;
mod verdict;

use std::time::{Duration, Instant};

/// How long a scenario goes on: rounds of faults begin until then, and there is one at least.
#[derive(Clone, Copy)]
struct Until(Instant);

impl Until {
    /// As long as one round takes.
    fn once() -> Self {
        Self(Instant::now())
    }

    /// `FAULT_SECONDS`, or a minute.
    fn long() -> Self {
        let seconds = std::env::var("FAULT_SECONDS").ok().and_then(|text| text.parse().ok());
        Self(Instant::now() + Duration::from_secs(seconds.unwrap_or(60)))
    }

    /// Lets time pass until it is over, but at least this long.
    async fn passes(self, at_least: Duration) {
        let left = self.0.saturating_duration_since(Instant::now());
        tokio::time::sleep(left.max(at_least)).await;
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}
