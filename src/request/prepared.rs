//! A validated request, and the facts from its document that decide how it is executed.

use std::num::NonZeroU32;

use async_graphql::InputType;
use aws_lc_rs::digest::{Context, SHA256};

use crate::{
    graphql::{MutationTarget, MutationTraits, SubscriptionTraits, document::Document},
    invitation,
    organization::AcceptInvitationInput,
    tenancy::{InvitationKey, OpenFor},
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

    /// The traits of the root fields that make changes.
    fn changes(&self) -> impl Iterator<Item = &MutationTraits> {
        self.document.changes.iter().flatten().map(|change| &change.traits)
    }

    /// Whether it only makes changes that are allowed when the month's calls are used up, and reads
    /// nothing back.
    pub(super) fn is_about_billing(&self) -> bool {
        self.changes().next().is_some()
            && !self.document.reads_back
            && self.changes().all(|change| change.allowed_over_call_limit)
    }

    /// Where the operation leads. A mutation that leads elsewhere has no other change.
    pub(super) fn open_for(&self) -> OpenFor {
        let Some(changes) = self.document.changes.as_deref() else { return OpenFor::Query };
        let mutation = OpenFor::Mutation { makes_several_changes: changes.len() > 1 };
        let [change] = changes else { return mutation };
        match change.traits.alone.unwrap_or(MutationTarget::Requested) {
            MutationTarget::Requested => mutation,
            MutationTarget::NewOrganization => OpenFor::NewOrganization,
            MutationTarget::User => OpenFor::User,
            MutationTarget::Invited => {
                self.invitation(&change.name).map_or(mutation, OpenFor::Invitation)
            }
        }
    }

    /// The invitation in the input of a mutation. All such inputs have the fields of
    /// `AcceptInvitationInput`.
    fn invitation(&self, mutation: &str) -> Option<InvitationKey> {
        let input = self.document.root_argument(mutation, "input");
        let AcceptInvitationInput { token, id } = AcceptInvitationInput::parse(input).ok()?;
        invitation::reference(token, id.as_ref()).ok()?.key()
    }

    /// The number of fields that can be used to guess a secret or to send e-mail; `None` for zero.
    pub(super) fn attempts(&self) -> Option<NonZeroU32> {
        let changes = self.changes().filter(|change| change.rate_limited).count();
        let attempts = changes + self.document.rate_limited_queries;
        u32::try_from(attempts).ok().and_then(NonZeroU32::new)
    }

    /// The traits of the subscription, if this is one.
    #[must_use]
    pub fn subscribes_to(&self) -> Option<&SubscriptionTraits> {
        self.document.subscribes_to.as_ref()
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
