//! A validated request, and the facts from its document that decide how it is executed.

use std::num::NonZeroU32;

use async_graphql::InputType;
use aws_lc_rs::digest::{Context, SHA256};

use crate::{
    graphql::document::Document,
    organization::AcceptInvitationInput,
    schema::{BILLING, GUESSABLE},
    tenancy::OpenFor,
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

    /// Where the operation leads. Fields that lead elsewhere are the only ones of their mutation.
    pub(super) fn open_for(&self) -> OpenFor {
        let Some(changes) = self.document.changes.as_deref() else { return OpenFor::Query };
        let mutation = OpenFor::Mutation { makes_several_changes: changes.len() > 1 };
        match changes {
            [field] => match field.as_str() {
                "createOrganization" => OpenFor::NewOrganization,
                "acceptInvitation" => {
                    let input = self.document.root_argument(field, "input");
                    let input = AcceptInvitationInput::parse(input).ok();
                    input.map_or(mutation, |input| OpenFor::Invitation(input.token_hash()))
                }
                "unlinkIdentity" => OpenFor::User,
                _ => mutation,
            },
            _ => mutation,
        }
    }

    /// The number of fields that can be used to guess a secret or to send e-mail; `None` for zero.
    pub(super) fn attempts(&self) -> Option<NonZeroU32> {
        let changes = self.document.changes.as_deref().unwrap_or_default();
        let attempts = changes.iter().filter(|field| GUESSABLE.contains(&field.as_str())).count();
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
