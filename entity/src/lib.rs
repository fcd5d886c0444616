//! The rows of tenantry's tables and typed ids, one file per table. The crate describes what is
//! stored and contains no rules.
//!
//! Tables are named without their schema. PostgreSQL finds them through the app role's
//! `search_path`.

mod id;

pub mod app;
pub mod audit_log;
pub mod feature;
pub mod invitation;
pub mod organization;
pub mod organization_billing;
pub mod organization_member;
pub mod outbox;
pub mod plan;
pub mod plan_feature;
pub mod plan_price;
pub mod usage;
pub mod user;

pub use feature::{FeatureKind, FeaturePeriod};
pub use id::{AuditLogId, InvitationId, MemberId, OrganizationId, OutboxId, UserId};
pub use organization_billing::{PlanTerms, SubscriptionStatus};
pub use organization_member::OrgRole;
pub use plan_price::PriceInterval;
