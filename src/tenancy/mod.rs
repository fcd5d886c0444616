//! The only way to the database: [`open`] turns a caller into a [`Session`], one transaction with its tenant's settings.
//!
//! Pools and plain connections exist nowhere else, so that no statement can run without a tenant.

mod connection;
mod open;
mod placement;
mod self_check;
mod session;
mod transaction;

pub use connection::DatabaseOptions;
pub use open::{Destination, Opened, open};
pub use placement::Placement;
pub use self_check::{Finding, Severity, self_check};
pub use session::{Environment, InvitationKey, Rules, Session, Tenant, Viewer};
pub use transaction::{Access, Transaction};
