//! One GraphQL request, end to end: read, validate, admit, open a session, execute, commit, answer.
//!
//! A query that is abandoned is cancelled; a mutation runs to its end, so that nobody has to guess
//! how far it came. Either way the transaction ends here, and a mutation is answered only after its
//! COMMIT was.

mod answer;
mod call;
mod execute;
mod prepared;
mod service;
mod trace;

pub use answer::{Answer, code};
pub use call::Call;
pub use prepared::Prepared;
pub use service::GraphqlService;
