//! One GraphQL operation, end to end: parse and validate, admit, open a session, execute, commit,
//! answer. `service` is its life: tracing, metrics and retries. `execute` is one transaction.
//!
//! A query is cancelled when its client disconnects. A mutation runs to its end, so that its
//! outcome is always known. Either way the transaction ends in this module, and a mutation is
//! answered only after its COMMIT.

mod answer;
mod execute;
mod graphql_service;
mod open;
mod prepared;
mod record;
mod request_context;
mod service;

pub use answer::{Answer, code};
pub use graphql_service::GraphqlService;
pub(crate) use open::ReadFrom;
pub use prepared::Prepared;
pub use request_context::RequestContext;
