//! Who sends a request, and where to.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    admission::Source,
    auth::Caller,
    idempotency::IdempotencyKey,
    tenancy::{Budget, Destination, Freshness},
};

/// Who asks, where, and under which names.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks.
    pub caller: Arc<Caller>,
    /// Where the request wants to go.
    pub destination: Destination,
    /// Finds it in the log.
    pub request_id: Uuid,
    /// Says which mutations are the same one.
    pub idempotency_key: Option<IdempotencyKey>,
    /// What its queries are content with, where that is not the freshest.
    pub freshness: Option<Freshness>,
    /// What it may cost.
    pub budget: Budget,
}

impl Call {
    /// What it is counted for.
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        Source { caller: Some(&self.caller), address: self.destination.client_ip }
    }
}
