//! One GraphQL request, end to end: parse, validate, admit, open a session, execute, commit,
//! respond.
//!
//! A query is cancelled when its client disconnects. A mutation runs to its end, so that its
//! outcome is always known. Either way the transaction ends in this module, and a mutation is
//! answered only after its COMMIT.

mod answer;
mod execute;
mod prepared;
mod request_context;
mod service;
mod trace;

pub use answer::{Answer, code};
pub use prepared::Prepared;
pub use request_context::RequestContext;
pub use service::GraphqlService;
