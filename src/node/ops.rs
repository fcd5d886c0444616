//! Finds objects of any type in one statement, so that an unknown id and another tenant's id take
//! the same path.

use sea_orm::{ConnectionTrait, QueryResult, Value, sea_query::ArrayType};
use uuid::Uuid;

use crate::{
    declared::Declared,
    error::{Error, Result},
    graphql::{Node, NodeType},
    sql::sql,
    tenancy::{Session, UnitOfWork as _},
};

/// Finds the objects with these ids that the caller may see in the current organization.
pub(super) async fn find_many(session: &Session, ids: &[Uuid]) -> Result<Vec<(Uuid, Node)>> {
    let visible: Vec<_> =
        NodeType::all().iter().filter(|node| session.authorize(node.permission).is_ok()).collect();
    if visible.is_empty() {
        return Ok(Vec::new());
    }
    let ids = ids.iter().map(|id| Value::from(*id)).collect();
    let find = sql(
        visible.iter().map(|node| select(node)).collect::<Vec<_>>().join(" UNION ALL "),
        [Value::Array(ArrayType::Uuid, Some(Box::new(ids))), session.organization_id()?.into()],
    );
    let rows = session.query_all_raw(find).await?;
    rows.iter().map(|row| read(&visible, row)).collect()
}

fn select(node: &NodeType) -> String {
    let (table, condition) = (node.table, (node.condition)());
    format!(
        "SELECT '{table}' AS kind, {table}.id, to_jsonb({table}) AS row FROM {table}
         WHERE {table}.id = ANY ($1) AND {condition}"
    )
}

fn read(visible: &[&NodeType], row: &QueryResult) -> Result<(Uuid, Node)> {
    let table: String = row.try_get("", "kind")?;
    let node = visible.iter().find(|node| node.table == table);
    let node = node.ok_or_else(|| Error::internal(format!("the table {table} is unknown")))?;
    Ok((row.try_get("", "id")?, node.read(row.try_get("", "row")?)?))
}
