//! A validated request, and the facts from its document that decide how it is executed.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{Context, SHA256};

use crate::{
    graphql::document::Document,
    schema::{BILLING, GUESSABLE, IN_CONTROL_DATABASE},
    tenancy::{Freshness, Preference},
};

/// A request whose document was parsed and validated.
#[derive(Debug)]
pub struct Prepared {
    document: Document,
}

impl Prepared {
    pub(super) fn new(document: Document) -> Self {
        Self { document }
    }

    /// Whether it needs neither a user nor a transaction.
    #[must_use]
    pub fn introspection_only(&self) -> bool {
        self.document.introspection_only
    }

    /// Whether it only changes billing and reads nothing back.
    pub(super) fn is_about_billing(&self) -> bool {
        let changes = self.document.changes.as_deref().unwrap_or_default();
        !changes.is_empty()
            && !self.document.reads_back
            && changes.iter().all(|field| BILLING.contains(&field.as_str()))
    }

    /// Where to open the session: in the control database if a field requires that, at a replica if
    /// the client accepts `freshness`, or else on the cached context.
    pub(super) fn preference(&self, freshness: Option<Freshness>) -> Preference {
        let changes = self.document.changes.as_deref().unwrap_or_default();
        if changes.iter().any(|field| IN_CONTROL_DATABASE.contains(&field.as_str())) {
            Preference::Control
        } else {
            freshness.map_or(Preference::Speculative, Preference::Replica)
        }
    }

    /// The number of fields that can be used to guess a secret or to send e-mail; `None` for zero.
    pub(super) fn attempts(&self) -> Option<NonZeroU32> {
        let changes = self.document.changes.as_deref().unwrap_or_default();
        let fields = changes.iter().chain(&self.document.reads);
        let attempts = fields.filter(|field| GUESSABLE.contains(&field.as_str())).count();
        u32::try_from(attempts).ok().and_then(NonZeroU32::new)
    }

    /// The subscription field, if this is a subscription.
    #[must_use]
    pub fn subscribes_to(&self) -> Option<&str> {
        self.document.subscribes_to.as_deref()
    }

    pub(crate) fn document(&self) -> &Document {
        &self.document
    }

    /// Whether it is a mutation.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        self.document.is_mutation()
    }

    /// SHA-256 of the document, the operation's name and the variables.
    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        let mut context = Context::new(&SHA256);
        context.update(&self.document.digest);
        // Serialization cannot fail for maps with string keys.
        context.update(&serde_json::to_vec(&self.document.variables).unwrap_or_default());
        context.finish().as_ref().to_vec()
    }
}
