//! Which organization an event is for: the one that has stored its customer. Text that the payer
//! can write never decides this.

use entity::OrganizationId;
use stripe::Subject;
use uuid::Uuid;

use crate::{
    error::Result,
    sql::{sql, value_of},
    tenancy::SystemSession,
};

/// The reason for skipping an event whose metadata names an organization with another customer.
pub(super) const OTHER_CUSTOMER: &str =
    "foreign customer: the organization has another one, or was deleted";

/// The organization that a customer was created for, according to Stripe.
pub(super) struct Owner(pub(super) Option<Uuid>);

/// The organization that an event is for.
pub(super) enum Recipient {
    Organization(OrganizationId),
    /// Perhaps the organization of this customer, which Stripe knows.
    Unknown(String),
    Foreign(&'static str),
    /// None, although the metadata names this organization. It has another customer, or was
    /// deleted.
    Other(Uuid),
}

/// Finds the organization that an event is for. A customer that no organization has stored is bound
/// only if its own metadata names the organization. `owner` is that metadata, read back from
/// Stripe. The metadata of a subscription is only a hint that asking is worthwhile, because the
/// payer can write it.
pub(super) async fn find_recipient(
    session: &SystemSession,
    subject: &Subject,
    owner: Option<&Owner>,
) -> Result<Recipient> {
    if let Some(id) = find_organization(session, &subject.customer, None).await? {
        return Ok(Recipient::Organization(id));
    }
    let Some(named) = subject.organization else {
        return Ok(Recipient::Foreign("foreign customer: no organization has it"));
    };
    let Some(id) = find_organization(session, &subject.customer, Some(named)).await? else {
        let is_paid = matches!(&subject.state, Some(Ok(shown)) if !shown.has_ended());
        let is_problem = is_paid && exists(session, named).await?;
        let foreign = Recipient::Foreign(OTHER_CUSTOMER);
        return Ok(if is_problem { Recipient::Other(named) } else { foreign });
    };
    Ok(match owner {
        None => Recipient::Unknown(subject.customer.clone()),
        Some(Owner(Some(owner))) if *owner == named => Recipient::Organization(id),
        Some(_) => Recipient::Foreign("foreign customer: it was not created by tenantry"),
    })
}

/// Finds the organization with this customer, or else the named organization if it exists and has
/// no customer.
pub(super) async fn find_organization(
    session: &SystemSession,
    customer: &str,
    named: Option<Uuid>,
) -> Result<Option<OrganizationId>> {
    let find = "SELECT billing.find_organization($1, $2) AS id";
    value_of(session, "id", sql(find, [customer.into(), named.into()])).await
}

/// Whether the organization exists, or existed before it was deleted.
async fn exists(session: &SystemSession, id: Uuid) -> Result<bool> {
    let find = "SELECT app.find_organization($1) IS NOT NULL AS exists";
    value_of(session, "exists", sql(find, [id.to_string().into()])).await
}
