//! An answer, and the roles under which it was given: it may hold what only those roles may see, so
//! it is given again only to a caller who still may what they may.

use entity::{OrgRole, OrganizationId};
use sea_orm::ActiveEnum;
use uuid::Uuid;

use crate::{
    auth::Permission,
    error::{Error, Result},
    tenancy::{Session, Tenant},
    user,
};

/// An answer that is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    roles: Vec<(Uuid, String)>,
    pub(super) answer: String,
}

impl Kept {
    /// The answer to a request that began in one organization, or in none, and ended in another, or
    /// in none. Where it began and ended in the same one the role at its end counts: a request may
    /// take its caller's own role away.
    pub(super) fn new(begun: Option<Tenant>, ended: Option<Tenant>, answer: &str) -> Self {
        let organization = |tenant: Option<Tenant>| tenant.map(|tenant| tenant.organization_id);
        let begun = begun.filter(|_| organization(begun) != organization(ended));
        let role = |tenant: Tenant| (tenant.organization_id.0, tenant.role.to_value());
        Self { roles: begun.into_iter().chain(ended).map(role).collect(), answer: answer.into() }
    }

    /// As text: the roles, a line break, the answer.
    pub(super) fn to_text(&self) -> Result<String> {
        let roles = serde_json::to_string(&self.roles).map_err(Error::internal)?;
        Ok(format!("{roles}\n{}", self.answer))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let (roles, answer) = text
            .split_once('\n')
            .ok_or_else(|| Error::internal("a kept answer has no line of roles"))?;
        let roles = serde_json::from_str(roles).map_err(Error::internal)?;
        Ok(Self { roles, answer: answer.to_owned() })
    }

    /// Whether the caller may do now all that the roles of then allowed.
    pub(super) async fn may_be_seen(&self, session: &Session) -> Result<bool> {
        let here = session.tenant();
        for (organization, role) in &self.roles {
            let organization = OrganizationId(*organization);
            let then = OrgRole::try_from_value(role)?;
            let here = here.filter(|tenant| tenant.organization_id == organization);
            let now = if let Some(tenant) = here {
                Some(tenant.role)
            } else {
                role_in(session, organization).await?
            };
            if !now.is_some_and(|now| Permission::all_granted_to(now, then)) {
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
    fn a_kept_answer_is_read_as_it_was_written() {
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
