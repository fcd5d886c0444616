//! The options of a pool.

use std::time::Duration;

use crate::ConnectOptions;

/// The address of a database, and the size of its pool.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Address and login.
    pub connect: ConnectOptions,
    /// The maximum number of connections.
    pub max_connections: usize,
    /// How long to wait for a free connection, and for opening one.
    pub acquire_timeout: Duration,
    /// The number of prepared statements that a connection keeps; 0 disables named statements.
    pub statement_cache: usize,
    /// A connection without an answer for this long counts as dead. [`Duration::MAX`] for work
    /// that has deadlines.
    pub answer_timeout: Duration,
}
