//! The only way to the database: [`open`] turns a caller into a [`Session`], a transaction with its
//! tenant's settings.
//!
//! No other module has a pool or a connection, so no statement runs without a tenant. The crate
//! `pg` has the parts that know no tenants.

mod change_feed;
mod current_role;
mod databases;
mod dedicated;
mod destination;
mod enter;
mod entry;
mod open;
mod opening;
mod placement;
mod placement_routing;
mod pools;
mod proof;
mod provision;
mod self_check;
mod session;
mod session_cache;
mod session_request;
mod settings;
mod speculation;
mod suspension;
mod system_session;
mod tenant;
mod tls_check;
mod unit_of_work;

pub use change_feed::{Change, ChangeFeed, Subscriber, SubscriberEnded};
pub use databases::Databases;
pub use destination::{Destination, InvitationKey, OpenFor};
pub use open::{Opened, open, open_at_replica};
pub use pg::{Access, Budget, Cost, Fetch, Freshness, Lsn, Transaction};
pub use pools::{DatabaseOptions, system_password};
pub use self_check::{DeclaredFeature, Extent, Finding, Severity};
pub use session::Session;
pub use session_cache::CachedContext;
pub use settings::{AccountLinking, AreaSettings, SecretKeys, Settings};
pub use speculation::{Confirmation, open_speculative};
pub use suspension::Suspension;
pub use system_session::{Reason, SystemSession, in_every_database, open_system};
pub use tenant::{Tenant, Viewer};
pub use tls_check::transport_finding;
pub use unit_of_work::{Actor, UnitOfWork};
