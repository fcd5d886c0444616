//! Connections in the sense of Relay, made from a slice of rows.

use async_graphql::{ObjectType, OutputType, connection::Edge};

use crate::page::{Cursor, DEFAULT_SIZE, Keyed, MAX_SIZE, Slice};

/// A page of nodes; `Total` adds `totalCount`, which is counted only when selected.
pub type Connection<Node, Total> = async_graphql::connection::Connection<Cursor, Node, Total>;

/// The connection of a slice.
pub fn connection<Row, Node, Total>(slice: Slice<Row>, total: Total) -> Connection<Node, Total>
where
    Row: Keyed,
    Node: From<Row> + OutputType,
    Total: ObjectType,
{
    let mut connection =
        Connection::with_additional_fields(slice.has_previous_page, slice.has_next_page, total);
    connection.edges =
        slice.rows.into_iter().map(|row| Edge::new(row.cursor(), Node::from(row))).collect();
    connection
}

/// What a field adds to a document's complexity that sends SQL statements, beside its selection.
pub const STATEMENT: usize = 10;

/// What a list adds to a document's complexity that has about so many entries: a statement, and its
/// selection for each.
#[must_use]
pub const fn list_cost(size: usize, selection: usize) -> usize {
    STATEMENT.saturating_add(size.saturating_mul(selection))
}

/// What a connection adds to a document's complexity: a statement, and its selection for each row
/// it may return.
#[must_use]
pub fn page_cost(first: Option<i32>, last: Option<i32>, selection: usize) -> usize {
    let size = first.or(last).map_or(DEFAULT_SIZE, |size| usize::try_from(size).unwrap_or(0));
    list_cost(size.clamp(1, MAX_SIZE), selection)
}
