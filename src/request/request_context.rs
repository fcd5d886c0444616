//! The parts of a request besides its document: caller, destination, idempotency key and limits.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    admission::Source,
    auth::Caller,
    idempotency::IdempotencyKey,
    tenancy::{Budget, Destination, Freshness},
};

/// A request's caller, destination, keys and limits.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The authenticated caller.
    pub caller: Arc<Caller>,
    /// The organization that the request addresses, and the client's address.
    pub destination: Destination,
    /// Identifies the request in logs.
    pub request_id: Uuid,
    /// Identifies repetitions of one mutation.
    pub idempotency_key: Option<IdempotencyKey>,
    /// How stale a query's response may be; `None` asks for the newest state.
    pub freshness: Option<Freshness>,
    /// The limit of statements and bytes.
    pub budget: Budget,
}

impl RequestContext {
    /// The user and the address that this request counts against.
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        Source { caller: Some(&self.caller), address: self.destination.client_ip }
    }
}
