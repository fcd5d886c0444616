//! Pages of the children of many parents at once, for example of the projects of each member in a
//! list. One statement for each page that the document requests reads it for all parents, so the
//! number of statements does not depend on the number of rows.

use std::{collections::HashMap, hash::Hash};

use futures_util::future::try_join_all;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter,
    QuerySelect, QueryTrait, Select, TryIntoModel, Value,
    sea_query::{Asterisk, Expr, ExprTrait, Func, JoinType, Query, SelectStatement},
};
use uuid::Uuid;

use crate::{
    error::Result,
    page::{Page, Slice},
    tenancy::{Fetch as _, Session},
};

/// The names of both sides in the statement.
const PARENT: &str = "parent";
const CHILD: &str = "child";

/// A list that each parent has. Its order and its cursors are those of all lists.
pub trait Children: Copy + Eq + Hash + Send + Sync + 'static {
    /// The rows.
    type Entity: EntityTrait<
            Model: Clone + Send + Sync,
            ActiveModel: ActiveModelTrait + TryIntoModel<<Self::Entity as EntityTrait>::Model>,
        >;

    /// The children of all parents in the current organization.
    ///
    /// # Errors
    ///
    /// Fails without an organization or without the permission.
    fn all(session: &Session) -> Result<Select<Self::Entity>>;

    /// The columns with the id of the parent, the time of creation, and the id. The table needs an
    /// index on the organization and these columns: `Reference::tenant` creates it.
    fn columns() -> [<Self::Entity as EntityTrait>::Column; 3];

    /// The id of the row's parent.
    fn parent(row: &<Self::Entity as EntityTrait>::Model) -> Option<Uuid>;
}

type Row<C> = <<C as Children>::Entity as EntityTrait>::Model;

/// Lists the requested pages of parents.
///
/// # Errors
///
/// As [`Children::all`].
pub async fn list<C: Children>(
    session: &Session,
    pages: impl IntoIterator<Item = (Uuid, Page)>,
) -> Result<HashMap<(Uuid, Page), Slice<Row<C>>>> {
    let mut parents: HashMap<Page, Vec<Uuid>> = HashMap::new();
    for (parent, page) in pages {
        parents.entry(page).or_default().push(parent);
    }
    let mut slices = HashMap::new();
    let read = parents.into_iter().map(|(page, parents)| read::<C>(session, page, parents));
    for (page, rows) in try_join_all(read).await? {
        let slice = |(parent, rows)| ((parent, page), page.slice(rows));
        slices.extend(rows.into_iter().map(slice));
    }
    Ok(slices)
}

/// Reads the same page of each parent, in the order in which the page is read.
async fn read<C: Children>(
    session: &Session,
    page: Page,
    parents: Vec<Uuid>,
) -> Result<(Page, HashMap<Uuid, Vec<Row<C>>>)> {
    let mut select = C::Entity::find();
    *QuerySelect::query(&mut select) = statement::<C>(session, page, &parents)?;
    let rows = select.fetch(session).await?;
    let mut of_parents: HashMap<_, _> =
        parents.into_iter().map(|parent| (parent, Vec::new())).collect();
    for row in rows {
        if let Some(rows) = C::parent(&row).and_then(|parent| of_parents.get_mut(&parent)) {
            rows.push(row);
        }
    }
    Ok((page, of_parents))
}

fn statement<C: Children>(
    session: &Session,
    page: Page,
    parents: &[Uuid],
) -> Result<SelectStatement> {
    let [parent, created_at, id] = C::columns();
    // A function in FROM that returns one value per row has one column, named after its alias.
    let is_parent = Expr::col(parent.as_column_ref()).eq(Expr::col((PARENT, PARENT)));
    let of_parent = page.narrow(C::all(session)?.filter(is_parent), created_at, id).into_query();
    let parents = Expr::cust_with_values("$1::uuid[]", [Value::from(parents.to_vec())]);
    Ok(Query::select()
        .column((CHILD, Asterisk))
        .from_function(Func::cust("unnest").arg(parents), PARENT)
        .join_lateral(JoinType::InnerJoin, of_parent, CHILD, Expr::cust("TRUE"))
        .order_by((CHILD, created_at), page.order())
        .order_by((CHILD, id), page.order())
        .take())
}

/// Counts the children of parents. Parents without children have no entry.
///
/// # Errors
///
/// As [`Children::all`].
pub async fn count<C: Children>(session: &Session, parents: &[Uuid]) -> Result<HashMap<Uuid, i64>> {
    let [parent, ..] = C::columns();
    let column = || Expr::col(parent.as_column_ref());
    let mut select = C::all(session)?
        .filter(parent.eq_any(parents.iter().copied()))
        .select_only()
        .expr_as(column(), "parent")
        .expr_as(Func::count(Expr::col(Asterisk)), "count");
    QuerySelect::query(&mut select).add_group_by([column()]);
    let rows = session.query_all_raw(select.build(DbBackend::Postgres)).await?;
    rows.iter().map(|row| Ok((row.try_get("", "parent")?, row.try_get("", "count")?))).collect()
}
