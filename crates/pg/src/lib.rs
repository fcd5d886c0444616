//! Access to PostgreSQL, without knowledge of tenants.
//!
//! - [`ConnectionPool`] and [`Transaction`]: the pool of a server. A transaction pipelines its
//!   statements, can be dropped at any point, and executes sea-orm's queries.
//! - [`Client`]: one connection, for commands and migrations.
//! - [`Listener`]: one connection that receives notifications.
//!
//! All of them take their address from [`ConnectOptions`], have the same TLS, and fail with
//! [`Error`].

mod access;
mod begin;
mod client;
mod connect_options;
mod connection;
mod error;
mod exclusive;
mod fetch;
mod first_answer;
mod listener;
mod lsn;
mod parameters;
mod password;
mod pool;
mod pool_options;
mod pooled_connection;
mod query_budget;
mod query_stats;
mod row;
mod sea_orm_adapter;
mod tls;
mod transaction;
mod typed;

pub use access::{Access, SearchPath};
pub use client::{Client, ClientTransaction};
pub use connect_options::ConnectOptions;
pub use connection::Answer;
pub use error::{Error, ErrorKind, Exceeded, Result};
pub use fetch::Fetch;
pub use listener::Listener;
pub use lsn::{CURRENT_LSN, Freshness, Lsn, LsnHistory};
pub use parameters::Parameters;
pub use password::{password_matches, password_verifier};
pub use pool::{ConnectionPool, PoolState};
pub use pool_options::PoolOptions;
pub use query_budget::{Budget, Cost};
pub use row::{FromRow, Row};
pub use sea_orm_adapter::to_query_result;
pub use tokio_postgres::types::FromSql;
pub use transaction::Transaction;
pub use typed::{Parameter, Typed};
