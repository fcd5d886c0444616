//! Everything that is recorded, in one place.

/// What somebody did: dotted, in the past tense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An organization was founded. Metadata: `name`, `slug`.
    OrganizationCreated,
    /// An organization was changed. Metadata: old and new values.
    OrganizationUpdated,
    /// An organization ended. Metadata: `name`, `slug`.
    OrganizationDeleted,
    /// The operator moved the organization to another place. Metadata: `from`, `to`, `rows`.
    OrganizationMoved,
    /// The operator exported the whole organization. Metadata: none.
    OrganizationExported,
    /// The operator brought the organization back from an export. Metadata: `exported_at`, `rows`.
    OrganizationRestored,
    /// The operator suspended the organization. Metadata: `suspension` (`full` or `read-only`).
    OrganizationSuspended,
    /// The operator ended the suspension. Metadata: `suspension` of before.
    OrganizationResumed,
    /// Somebody was invited. Metadata: `email`, `role`.
    InvitationCreated,
    /// An invitation got a new token and a new term. Metadata: `email`, `role`.
    InvitationResent,
    /// An invitation was taken back. Metadata: `email`, `role`.
    InvitationRevoked,
    /// The invited person became a member. Metadata: `email`, `role`.
    InvitationAccepted,
    /// A member's role was changed. Metadata: `user_id`, `name`, `old_role`, `role`.
    MemberRoleChanged,
    /// A member was removed. Metadata: `user_id`, `name`, `role`.
    MemberRemoved,
    /// A member left. Metadata: `user_id`, `name`, `role`.
    MemberLeft,
    /// An owner handed the organization over. Metadata: `user_id`, `name` and `old_role` of the new
    /// owner.
    OrganizationTransferred,
    /// The plan was changed. Metadata: old and new `plan` and `status`, and the `event` where
    /// Stripe told of it.
    BillingPlanChanged,
    /// A trial began. Metadata: `plan`, `trial_ends_at`.
    BillingTrialStarted,
    /// The subscription is to end with its period. Metadata: `plan`, `period_end`.
    BillingSubscriptionCanceled,
    /// The end was called off. Metadata: `plan`.
    BillingSubscriptionResumed,
    /// Somebody was sent to Stripe to subscribe. Metadata: `plan`.
    BillingCheckoutStarted,
    /// Somebody was sent to Stripe to look after billing. Metadata: none.
    BillingPortalOpened,
    /// Stripe told of a change to the subscription other than of its plan. Metadata: `plan`, old
    /// and new `status`, `cancel_at_period_end`, `period_end`, and the `event`.
    BillingSubscriptionUpdated,
    /// An identity signed in for the first time and joined a member by a verified address.
    /// Metadata: `issuer`, `email`.
    UserIdentityLinked,
    /// A member took an identity away from their user. Metadata: `issuer`, `email`.
    UserIdentityUnlinked,
    /// The operator suspended a member, everywhere. Metadata: `user_id`, `name`.
    UserSuspended,
    /// The operator let a suspended member in again. Metadata: `user_id`, `name`.
    UserResumed,
    /// The operator exported the audit log. Metadata: `format`, `since`, `until`.
    AuditExported,
    /// The operator deleted old entries. Metadata: `before`, `entries`.
    AuditPruned,
    /// A project was created. Metadata: `name`.
    ProjectCreated,
    /// A project was changed. Metadata: `name`, and old and new values.
    ProjectUpdated,
    /// A project was deleted. Metadata: `name`.
    ProjectDeleted,
}

impl Action {
    /// The action as it is stored and shown, for example `project.created`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OrganizationCreated => "organization.created",
            Self::OrganizationUpdated => "organization.updated",
            Self::OrganizationDeleted => "organization.deleted",
            Self::OrganizationMoved => "organization.moved",
            Self::OrganizationExported => "organization.exported",
            Self::OrganizationRestored => "organization.restored",
            Self::OrganizationSuspended => "organization.suspended",
            Self::OrganizationResumed => "organization.resumed",
            Self::OrganizationTransferred => "organization.transferred",
            Self::InvitationCreated => "invitation.created",
            Self::InvitationResent => "invitation.resent",
            Self::InvitationRevoked => "invitation.revoked",
            Self::InvitationAccepted => "invitation.accepted",
            Self::MemberRoleChanged => "member.role_changed",
            Self::MemberRemoved => "member.removed",
            Self::MemberLeft => "member.left",
            Self::BillingPlanChanged => "billing.plan_changed",
            Self::BillingTrialStarted => "billing.trial_started",
            Self::BillingSubscriptionCanceled => "billing.subscription_canceled",
            Self::BillingSubscriptionResumed => "billing.subscription_resumed",
            Self::BillingCheckoutStarted => "billing.checkout_started",
            Self::BillingPortalOpened => "billing.portal_opened",
            Self::BillingSubscriptionUpdated => "billing.subscription_updated",
            Self::UserIdentityLinked => "user.identity_linked",
            Self::UserIdentityUnlinked => "user.identity_unlinked",
            Self::UserSuspended => "user.suspended",
            Self::UserResumed => "user.resumed",
            Self::AuditExported => "audit.exported",
            Self::AuditPruned => "audit.pruned",
            Self::ProjectCreated => "project.created",
            Self::ProjectUpdated => "project.updated",
            Self::ProjectDeleted => "project.deleted",
        }
    }

    /// The type of what was acted on: the part before the dot.
    #[must_use]
    pub fn resource_type(self) -> &'static str {
        let name = self.name();
        name.split_once('.').map_or(name, |(resource, _)| resource)
    }
}
