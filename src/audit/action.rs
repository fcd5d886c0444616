//! The actions of the audit log. Every audited change is a variant here, with the metadata that its
//! entries carry.

/// An audited action. Names are dotted and in the past tense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An organization was created. Metadata: `name`, `slug`.
    OrganizationCreated,
    /// An organization was updated. Metadata: old and new values.
    OrganizationUpdated,
    /// An organization was deleted. Metadata: `name`, `slug`.
    OrganizationDeleted,
    /// The operator moved the organization between shared tables, a dedicated schema and a
    /// dedicated database. Metadata: `from`, `to`, `rows`.
    OrganizationMoved,
    /// The operator exported the whole organization. Metadata: none.
    OrganizationExported,
    /// The operator restored the organization from an export. Metadata: `exported_at`, `rows`.
    OrganizationRestored,
    /// The operator suspended the organization. Metadata: `suspension` (`full` or `read-only`).
    OrganizationSuspended,
    /// The operator ended the suspension. Metadata: the former `suspension`.
    OrganizationResumed,
    /// A user was invited. Metadata: `email`, `role`.
    InvitationCreated,
    /// An invitation was renewed with a new token and expiry. Metadata: `email`, `role`.
    InvitationResent,
    /// An invitation was revoked. Metadata: `email`, `role`.
    InvitationRevoked,
    /// The invited user became a member. Metadata: `email`, `role`.
    InvitationAccepted,
    /// The invited user declined. Metadata: `email`, `role`.
    InvitationDeclined,
    /// A member's role was changed. Metadata: `user_id`, `name`, `old_role`, `role`.
    MemberRoleChanged,
    /// A member was removed. Metadata: `user_id`, `name`, `role`.
    MemberRemoved,
    /// A member left. Metadata: `user_id`, `name`, `role`.
    MemberLeft,
    /// An owner transferred the ownership. Metadata: `user_id`, `name` and `old_role` of the new
    /// owner.
    OrganizationTransferred,
    /// The plan was changed. Metadata: old and new `plan` and `status`, and the `event` if Stripe
    /// reported the change.
    BillingPlanChanged,
    /// A trial began. Metadata: `plan`, `trial_ends_at`.
    BillingTrialStarted,
    /// The subscription was set to end with its period. Metadata: `plan`, `period_end`.
    BillingSubscriptionCanceled,
    /// The cancellation was withdrawn. Metadata: `plan`.
    BillingSubscriptionResumed,
    /// An owner opened a Stripe checkout page. Metadata: `plan`, `price`.
    BillingCheckoutStarted,
    /// An owner opened Stripe's billing portal. Metadata: none.
    BillingPortalOpened,
    /// Stripe reported a change to the subscription that left the plan unchanged. Metadata: `plan`,
    /// old and new `status`, `cancel_at_period_end`, `period_end`, `seats`, `collection_paused`, the
    /// `event`, and the `unknown_price` if no plan has the subscription's price.
    BillingSubscriptionUpdated,
    /// The operator changed what the organization may use of a feature, as an exception to its
    /// plan. Metadata: `feature`, old and new `value` (a number, `unlimited`, `on` or `off`; null
    /// without an exception), `valid_until`, `reason`.
    BillingEntitlementChanged,
    /// A subscription that is paid at Stripe has no effect, because the organization has another
    /// one, or no plan has its price. Metadata: `subscription`, `price`, `event`.
    BillingSubscriptionIgnored,
    /// The customer was deleted at Stripe, which ended the subscription. Metadata: `customer`,
    /// `event`.
    BillingCustomerDeleted,
    /// The number of paid seats followed the size of the team. Metadata: old and new `seats`.
    BillingSeatsChanged,
    /// A new identity was linked to a member by its verified address. Metadata: `issuer`, `email`.
    UserIdentityLinked,
    /// A member unlinked one of their identities. Metadata: `issuer`, `email`.
    UserIdentityUnlinked,
    /// A member chose their name, or let it follow the identity provider again. Metadata:
    /// `user_id`, and the new `name`.
    UserRenamed,
    /// The operator suspended a member in all organizations. Metadata: `user_id`, `name`.
    UserSuspended,
    /// The operator ended the suspension of a member. Metadata: `user_id`, `name`.
    UserResumed,
    /// The operator exported the audit log. Metadata: `format`, `since`, `until`.
    AuditExported,
    /// The operator deleted old entries. Metadata: `before`, `entries`.
    AuditPruned,
    /// A project was created. Metadata: `name`.
    ProjectCreated,
    /// A project was updated. Metadata: `name`, and old and new values.
    ProjectUpdated,
    /// A project was deleted. Metadata: `name`.
    ProjectDeleted,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 38] = [
        Self::OrganizationCreated,
        Self::OrganizationUpdated,
        Self::OrganizationDeleted,
        Self::OrganizationMoved,
        Self::OrganizationExported,
        Self::OrganizationRestored,
        Self::OrganizationSuspended,
        Self::OrganizationResumed,
        Self::OrganizationTransferred,
        Self::InvitationCreated,
        Self::InvitationResent,
        Self::InvitationRevoked,
        Self::InvitationAccepted,
        Self::InvitationDeclined,
        Self::MemberRoleChanged,
        Self::MemberRemoved,
        Self::MemberLeft,
        Self::BillingPlanChanged,
        Self::BillingTrialStarted,
        Self::BillingSubscriptionCanceled,
        Self::BillingSubscriptionResumed,
        Self::BillingCheckoutStarted,
        Self::BillingPortalOpened,
        Self::BillingSubscriptionUpdated,
        Self::BillingEntitlementChanged,
        Self::BillingSubscriptionIgnored,
        Self::BillingCustomerDeleted,
        Self::BillingSeatsChanged,
        Self::UserIdentityLinked,
        Self::UserIdentityUnlinked,
        Self::UserRenamed,
        Self::UserSuspended,
        Self::UserResumed,
        Self::AuditExported,
        Self::AuditPruned,
        Self::ProjectCreated,
        Self::ProjectUpdated,
        Self::ProjectDeleted,
    ];

    /// The stored name, for example `project.created`.
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
            Self::InvitationDeclined => "invitation.declined",
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
            Self::BillingEntitlementChanged => "billing.entitlement_changed",
            Self::BillingSubscriptionIgnored => "billing.subscription_ignored",
            Self::BillingCustomerDeleted => "billing.customer_deleted",
            Self::BillingSeatsChanged => "billing.seats_changed",
            Self::UserIdentityLinked => "user.identity_linked",
            Self::UserIdentityUnlinked => "user.identity_unlinked",
            Self::UserRenamed => "user.renamed",
            Self::UserSuspended => "user.suspended",
            Self::UserResumed => "user.resumed",
            Self::AuditExported => "audit.exported",
            Self::AuditPruned => "audit.pruned",
            Self::ProjectCreated => "project.created",
            Self::ProjectUpdated => "project.updated",
            Self::ProjectDeleted => "project.deleted",
        }
    }

    /// The type of the resource: the part of the name before the dot.
    #[must_use]
    pub fn resource_type(self) -> &'static str {
        let name = self.name();
        name.split_once('.').map_or(name, |(resource, _)| resource)
    }
}
