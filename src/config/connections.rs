//! The number of connections to the database.

use std::thread::available_parallelism;

/// The connections for requests: as given, or three for each processor. Requests beyond two or
/// three for each processor of the database wait for each other inside PostgreSQL. The server does
/// not know the database's processors, and assumes as many as it has itself.
pub(super) fn max_connections(given: Option<u16>) -> usize {
    given.map_or_else(
        || (3 * available_parallelism().map_or(1, usize::from)).clamp(6, 48),
        usize::from,
    )
}
