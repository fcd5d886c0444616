//! Relay connections built from a slice of rows, and the complexity of lists.

use async_graphql::{ObjectType, connection::Edge};

use super::Loaded;
use crate::page::{Cursor, DEFAULT_SIZE, Keyed, MAX_SIZE, Slice};

/// A page of nodes. `Total` adds `totalCount`, which is counted only if selected.
pub type Connection<Node, Total> =
    async_graphql::connection::Connection<Cursor, Loaded<Node>, Total>;

/// Builds the connection of a slice.
pub fn connection<Row, Node, Total>(slice: Slice<Row>, total: Total) -> Connection<Node, Total>
where
    Row: Keyed,
    Node: From<Row> + ObjectType,
    Total: ObjectType,
{
    let mut connection =
        Connection::with_additional_fields(slice.has_previous_page, slice.has_next_page, total);
    connection.edges = slice
        .rows
        .into_iter()
        .map(|row| Edge::new(row.cursor(), Loaded(Node::from(row))))
        .collect();
    connection
}

/// The complexity of a field that sends SQL statements, in addition to its selection.
pub const STATEMENT: usize = 10;

/// The complexity of a list with about `size` entries: one statement, and the selection for each
/// entry.
#[must_use]
pub const fn list_cost(size: usize, selection: usize) -> usize {
    STATEMENT.saturating_add(size.saturating_mul(selection))
}

/// The complexity of a connection: one statement, and the selection for each row that the page may
/// contain.
#[must_use]
pub fn page_cost(first: Option<i32>, last: Option<i32>, selection: usize) -> usize {
    let size = first.or(last).map_or(DEFAULT_SIZE, |size| usize::try_from(size).unwrap_or(0));
    list_cost(size.clamp(1, MAX_SIZE), selection)
}
