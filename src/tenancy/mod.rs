//! The only way to the database: [`open`] turns a caller into a [`Session`], one transaction with
//! its tenant's settings.
//!
//! Pools and plain connections exist nowhere else, so that no statement can run without a tenant.

mod abroad;
mod ahead;
mod borrowed;
mod budget;
mod change;
mod connect;
mod connection;
mod dedicated;
mod directory;
mod driver;
mod entrance;
mod environment;
mod failure;
mod home;
mod notices;
mod open;
mod openings;
mod pending_changes;
mod placement;
mod pool;
mod position;
mod proof;
mod question;
mod replica;
mod route;
mod rows;
mod scope;
mod self_check;
mod session;
mod statements;
mod suspension;
mod system;
mod transaction;
mod transport;

pub use budget::{Budget, Cost};
pub use change::Change;
pub use connect::system_password;
pub use environment::{AccountLinking, Environment, Rules, SecretKeys};
pub use notices::{Notices, Watch, WatchEnded};
pub use open::{Destination, Opened, Preference, open};
pub use placement::Placement;
pub use pool::DatabaseOptions;
pub use position::{Freshness, Position};
pub use rows::Rows;
pub use scope::{Actor, Scope};
pub use self_check::{Finding, Severity};
pub use session::{Session, Tenant, Viewer};
pub use suspension::Suspension;
pub use system::{Reason, SystemSession, in_every_database, open_system};
pub use transaction::{Access, Transaction};
pub use transport::transport_finding;
