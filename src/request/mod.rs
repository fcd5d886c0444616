//! One GraphQL request, end to end: read, validate, admit, open a session, execute, commit, answer.
//!
//! A query that is abandoned is cancelled; a mutation runs to its end, so that nobody has to guess
//! how far it came. Either way the transaction ends here, and a mutation is answered only after its
//! COMMIT was.

mod answer;
mod attempt;
mod call;
mod course;
mod engine;
mod prepared;

pub use answer::{Answer, code};
pub use call::Call;
pub use engine::Engine;
pub use prepared::Prepared;
