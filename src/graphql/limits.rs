//! The limits of a document, and what is said of one that passes them or breaks a rule.

use crate::error::ErrorCode;

/// Selections, lists and objects may nest this deep in the text; beyond it a parser's stack is at
/// risk.
pub(super) const MAX_NESTING: usize = 50;

/// Limits on a document, all of them settings.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Lexical tokens.
    pub tokens: usize,
    /// Levels of fields.
    pub depth: usize,
    /// Levels of fields in introspection.
    pub introspection_depth: usize,
    /// Fields, each counted as often as the pages around it may repeat it.
    pub complexity: usize,
    /// Aliases, those in spread fragments counted each time.
    pub aliases: usize,
    /// Root fields of a mutation.
    pub root_mutations: usize,
}

/// Why a document is not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of the codes of a refused document.
    pub code: ErrorCode,
    /// What is wrong with it.
    pub message: String,
    /// Where in the text, as `(line, column)`.
    pub location: Option<(usize, usize)>,
}

impl Refusal {
    /// Not valid for this schema.
    pub fn invalid(message: impl Into<String>) -> Self {
        let code = ErrorCode::GraphqlValidationFailed;
        Self { code, message: message.into(), location: None }
    }

    /// Past a limit.
    pub fn too_complex(message: impl Into<String>) -> Self {
        let code = ErrorCode::QueryTooComplex;
        Self { code, message: message.into(), location: None }
    }
}

impl From<Refusal> for Vec<Refusal> {
    fn from(refusal: Refusal) -> Self {
        vec![refusal]
    }
}
