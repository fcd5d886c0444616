//! Dedicated databases. No other module connects to one, and a server without `DATABASES` has no
//! [`DedicatedDatabases`] and calls nothing here. Other modules call:
//!
//! | for | functions |
//! | --- | --- |
//! | sessions of users | `open`, `begin_speculative`, `enter_invited` |
//! | background work | `begin_last_seen`, `find`, `enter`, `names`, `begin_outside`, `has_seen` |
//! | a session that is there | `after`, `begun`, `ask_control`, `commit` |
//! | the server | `new`, `missing`, `keep_synced`, `user_changed`, `pools`, `findings`, `silent` |
//!
//! The control database decides where an organization lives. A dedicated database that disagrees
//! is in the middle of a move, which these functions complete.

mod background_work;
mod database;
mod databases;
mod remote;
mod sync;
mod user_session;

pub(super) use databases::DedicatedDatabases;
pub(super) use remote::{Begun, Remote, commit};
pub(super) use user_session::Lookup;
