//! The statements that enter an organization which a request does not name, and what they return.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::{InvitationId, OrgRole, OrganizationId};
use pg::{Parameters, Row};
use sea_orm::Values;
use uuid::Uuid;

use super::{
    Tenant,
    placement::{ELSEWHERE, Placement},
    session_request::{get, placement_of},
};
use crate::error::{Error, Result};

/// Enters an organization without a user, and returns its placement.
pub(super) const ENTER: &str =
    "SELECT placement, placement_version, placement_generation FROM auth.enter_organization($1)";

/// Enters the organization of an invitation that the user may accept.
pub(super) const ENTER_INVITED: &str =
    "SELECT organization_id, invitation_id, placement, placement_version, placement_generation, suspension
    FROM auth.enter_invited_organization($1, $2, $3)";

/// The maximum number of tries. Moves are rare, and each takes at most two.
pub(super) const MOST_MOVES: usize = 5;

/// The error if an organization moves more often than that.
pub(super) fn being_moved() -> Error {
    Error::unavailable("the organization is being moved to another database")
}

/// The parameters of [`ENTER`]. Without an organization it leaves the present one.
pub(super) fn entering(organization: Option<OrganizationId>) -> Result<Parameters> {
    Ok(Parameters::of(Some(Values(vec![organization.map(|id| id.0).into()])))?)
}

/// Where an organization was found.
pub(super) enum Entered {
    /// In this database, at this placement.
    Here(Placement),
    /// In the dedicated database with this name, since this generation.
    Database(Arc<str>, Option<i64>),
    /// Not in this dedicated database, which has this generation.
    Elsewhere(Option<i64>),
}

impl Entered {
    /// Reads the answer to [`ENTER`] or [`ENTER_INVITED`].
    pub(super) fn read(rows: &[Row], organization: Option<OrganizationId>) -> Result<Self> {
        let (Some(row), Some(organization)) = (rows.first(), organization) else {
            return Ok(Self::Here(Placement::Shared));
        };
        let generation = get(row, "placement_generation")?;
        if get::<&str>(row, "placement")? == ELSEWHERE {
            return Ok(Self::Elsewhere(generation));
        }
        Ok(match placement_of(row, organization)? {
            Placement::Database(name) => Self::Database(name, generation),
            placement => Self::Here(placement),
        })
    }
}

/// The token of an invitation and what decides whether it may be accepted.
pub(super) struct Token<'request> {
    /// `None` refers to no invitation.
    pub(super) hash: Option<Vec<u8>>,
    pub(super) now: DateTime<Utc>,
    /// The verified address in the request's token.
    pub(super) email: Option<&'request str>,
}

impl Token<'_> {
    /// The parameters of [`ENTER_INVITED`].
    pub(super) fn parameters(&self) -> Values {
        Values(vec![self.hash.clone().into(), self.now.into(), self.email.into()])
    }
}

/// An invitation whose organization was entered.
pub(super) struct Invitation {
    pub(super) organization_id: OrganizationId,
    pub(super) id: InvitationId,
}

impl Invitation {
    /// The invitation in the answer to [`ENTER_INVITED`], or why it cannot be accepted.
    pub(super) fn read(rows: &[Row]) -> Result<Result<Self, Error>> {
        let Some(row) = rows.first() else { return Ok(Err(Error::NotFound("invitation"))) };
        if get::<Option<&str>>(row, "suspension")?.is_some() {
            return Ok(Err(Error::OrganizationSuspended));
        }
        let organization: Option<Uuid> = get(row, "organization_id")?;
        let id: Option<Uuid> = get(row, "invitation_id")?;
        let found = organization.map(OrganizationId).zip(id.map(InvitationId));
        let found = found.map(|(organization_id, id)| Self { organization_id, id });
        Ok(found.ok_or(Error::NotFound("invitation")))
    }

    /// The organization with the rights of a viewer, until the caller has joined it.
    pub(super) fn tenant(&self) -> Tenant {
        let organization_id = self.organization_id;
        Tenant { organization_id, role: OrgRole::Viewer, suspension: None }
    }
}
