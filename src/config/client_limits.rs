//! Settings that limit the connections, subscriptions and cached sessions of clients.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use std::num::NonZeroUsize;

use clap::Args;

use super::at_least_one;
use crate::admission::SubscriptionLimits;

/// Limits on what the server keeps for clients at the same time.
#[derive(Args, Clone, Debug)]
pub struct ClientsConfig {
    /// Open connections per client address (for IPv6, per /64 network), at most half of
    /// MAX_CLIENT_CONNECTIONS. TRUSTED_PROXIES are exempt.
    #[arg(long, env, default_value_t = 1_000, value_parser = at_least_one)]
    pub max_client_connections_by_address: usize,

    /// Seconds after which a WebSocket without a running operation is closed.
    #[arg(long, env, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub websocket_idle_timeout: u64,

    /// Subscriptions that a user may have open at the same time.
    #[arg(long, env, default_value_t = 100)]
    pub max_subscriptions: usize,

    /// Subscriptions that all members of an organization together may have open at the same time.
    #[arg(long, env, default_value_t = 2_000)]
    pub max_subscriptions_by_organization: usize,

    /// Number of callers whose user, organization and role the server caches, so that their next
    /// request starts faster. An entry is for one user in one organization and takes about half a
    /// kilobyte.
    #[arg(long, env, default_value = "65536")]
    pub session_cache_size: NonZeroUsize,
}

impl ClientsConfig {
    /// Returns the limits on subscriptions.
    pub fn subscription_limits(&self) -> SubscriptionLimits {
        SubscriptionLimits {
            by_user: self.max_subscriptions,
            by_organization: self.max_subscriptions_by_organization,
        }
    }
}
