//! The user and the organization of a request.

use std::net::IpAddr;

use entity::{OrgRole, OrganizationId, UserId};

use super::Suspension;

/// The user of a request.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The id in `auth.users`.
    pub user_id: UserId,
    /// The verified e-mail address in the request's token; `None` if a newer token of the identity
    /// has another one.
    pub verified_email: Option<String>,
    /// The address in the request's token that is not verified, for explanations only.
    pub unverified_email: Option<String>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
}

/// The organization of a request, and the user's role in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The organization in the transaction's settings.
    pub organization_id: OrganizationId,
    /// The user's role, as last read in this transaction.
    pub role: OrgRole,
    /// The suspension, if the operator has suspended the organization.
    pub suspension: Option<Suspension>,
}
