//! Finds objects of any type in one statement, so that an unknown id and another tenant's id take
//! the same path.

use entity::{invitation, organization, organization_member, project, user};
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value, sea_query::ArrayType};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{
    auth::Permission,
    error::{Error, Result},
    invitation::IS_OPEN,
    tenancy::Session,
};

/// A row of a type with an id.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Organization(organization::Model),
    Member(organization_member::Model),
    Invitation(invitation::Model),
    Project(project::Model),
    User(user::Model),
}

fn sql() -> String {
    format!(
        "
    SELECT 'organization' AS kind, id, to_jsonb(t) AS row FROM organizations t WHERE id = $2 AND id = ANY ($1)
    UNION ALL
    SELECT 'member', id, to_jsonb(t) FROM organization_members t WHERE organization_id = $2 AND id = ANY ($1)
    UNION ALL
    SELECT 'invitation', id, to_jsonb(invitations) FROM invitations
    WHERE organization_id = $2 AND id = ANY ($1) AND $3 AND {}
    UNION ALL
    SELECT 'project', id, to_jsonb(t) FROM projects t WHERE organization_id = $2 AND id = ANY ($1)
    UNION ALL
    SELECT 'user', id, to_jsonb(t) FROM users t WHERE $2 IS NOT NULL AND id = ANY ($1)",
        *IS_OPEN
    )
}

/// Finds the objects with these ids that the caller may see in the current organization.
pub(super) async fn find_many(session: &Session, ids: &[Uuid]) -> Result<Vec<(Uuid, Found)>> {
    let tenant = session.authorize(Permission::OrganizationRead).ok();
    let organization = tenant.map(|tenant| tenant.organization_id);
    let invitations = session.authorize(Permission::MemberInvite).is_ok();
    let ids = ids.iter().map(|id| Value::from(*id)).collect();
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        sql(),
        [
            Value::Array(ArrayType::Uuid, Some(Box::new(ids))),
            organization.into(),
            invitations.into(),
        ],
    );
    session.query_all_raw(statement).await?.iter().map(found).collect()
}

fn found(row: &QueryResult) -> Result<(Uuid, Found)> {
    let kind: String = row.try_get("", "kind")?;
    let found = match kind.as_str() {
        "organization" => Found::Organization(model(row)?),
        "member" => Found::Member(model(row)?),
        "invitation" => Found::Invitation(model(row)?),
        "project" => Found::Project(model(row)?),
        "user" => Found::User(model(row)?),
        other => return Err(Error::internal(format!("the object type {other} is unknown"))),
    };
    Ok((row.try_get("", "id")?, found))
}

fn model<T: DeserializeOwned>(row: &QueryResult) -> Result<T> {
    serde_json::from_value(row.try_get("", "row")?).map_err(Error::internal)
}
