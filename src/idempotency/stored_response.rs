//! A stored response and the roles it was given under. It may contain data that only those roles
//! may see, so it is repeated only to a caller who still has all their permissions.

use entity::{OrgRole, OrganizationId};
use sea_orm::ActiveEnum;
use uuid::Uuid;

use crate::{
    auth::Permission,
    error::{Error, Result},
    tenancy::{Session, Tenant},
    user,
};

/// A stored response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    roles: Vec<(Uuid, String)>,
    pub(super) response: String,
}

impl Kept {
    /// Stores a response with the roles of the caller. A request can name one organization and lead
    /// to another, or to none. If it ends in the one that it names, only the role at its end
    /// counts: the request may have lowered its caller's role.
    pub(super) fn new(requested: Option<Tenant>, ended: Option<Tenant>, response: &str) -> Self {
        let organization = |tenant: Option<Tenant>| tenant.map(|tenant| tenant.organization_id);
        let requested = requested.filter(|_| organization(requested) != organization(ended));
        let role = |tenant: Tenant| (tenant.organization_id.0, tenant.role.to_value());
        Self {
            roles: requested.into_iter().chain(ended).map(role).collect(),
            response: response.into(),
        }
    }

    /// Formats the roles and the response, separated by a line break.
    pub(super) fn to_text(&self) -> Result<String> {
        let roles = serde_json::to_string(&self.roles).map_err(Error::internal)?;
        Ok(format!("{roles}\n{}", self.response))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let (roles, response) = text
            .split_once('\n')
            .ok_or_else(|| Error::internal("a stored response has no line of roles"))?;
        let roles = serde_json::from_str(roles).map_err(Error::internal)?;
        Ok(Self { roles, response: response.to_owned() })
    }

    /// Returns whether the caller now has all permissions of the stored roles. `here` is the
    /// organization that the request names, with the caller's role.
    pub(super) async fn may_be_seen(
        &self,
        session: &Session,
        here: Option<Tenant>,
    ) -> Result<bool> {
        for (organization, role) in &self.roles {
            let organization = OrganizationId(*organization);
            let stored = OrgRole::try_from_value(role)?;
            let here = here.filter(|tenant| tenant.organization_id == organization);
            let current = if let Some(tenant) = here {
                Some(tenant.role)
            } else {
                role_in(session, organization).await?
            };
            if !current.is_some_and(|current| Permission::all_granted_to(current, stored)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

async fn role_in(session: &Session, organization: OrganizationId) -> Result<Option<OrgRole>> {
    let mut memberships = user::memberships(session).await?.into_iter();
    let membership = memberships.find(|membership| membership.organization_id == organization);
    Ok(membership.map(|membership| membership.role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_response_is_read_as_it_was_written() {
        let tenant =
            |id, role| Some(Tenant { organization_id: OrganizationId(id), role, suspension: None });
        let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
        let kept = Kept::new(tenant(one, OrgRole::Admin), tenant(other, OrgRole::Owner), "{\n}");
        assert_eq!(kept.roles, [(one, "admin".to_owned()), (other, "owner".to_owned())]);
        assert_eq!(Kept::parse(&kept.to_text().unwrap()).unwrap(), kept);
        let kept = Kept::new(tenant(one, OrgRole::Owner), tenant(one, OrgRole::Admin), "");
        assert_eq!(kept.roles, [(one, "admin".to_owned())]);
        assert!(Kept::new(None, None, "").roles.is_empty());
        assert!(Kept::parse("{}").is_err());
    }
}
