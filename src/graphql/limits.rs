//! The limits on a document, and the error for one that exceeds them or is invalid.

use async_graphql::Pos;

use crate::error::ErrorCode;

/// How deep selections, lists and objects may nest in the text. Deeper nesting could overflow a
/// parser's stack.
pub(super) const MAX_NESTING: usize = 50;

/// The configurable limits on a document.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Whether errors may suggest names of the schema.
    pub suggestions: bool,
    /// Lexical tokens.
    pub tokens: usize,
    /// Levels of fields.
    pub depth: usize,
    /// Levels of fields in introspection.
    pub introspection_depth: usize,
    /// Fields, each multiplied by the sizes of the pages around it.
    pub complexity: usize,
    /// Aliases. Those in a fragment count each time it is spread.
    pub aliases: usize,
    /// Root fields of a mutation.
    pub root_mutations: usize,
}

/// The reason for rejecting a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A code for rejected documents.
    pub code: ErrorCode,
    /// The problem.
    pub message: String,
    /// The place in the text as `(line, column)`.
    pub location: Option<(usize, usize)>,
}

impl Refusal {
    /// The document is not valid for this schema.
    pub fn invalid(message: impl Into<String>) -> Self {
        let code = ErrorCode::GraphqlValidationFailed;
        Self { code, message: message.into(), location: None }
    }

    /// The document is not valid at this place.
    pub fn invalid_at(place: Pos, message: impl Into<String>) -> Self {
        Self { location: Some((place.line, place.column)), ..Self::invalid(message) }
    }

    /// The document exceeds a limit.
    pub fn too_complex(message: impl Into<String>) -> Self {
        let code = ErrorCode::QueryTooComplex;
        Self { code, message: message.into(), location: None }
    }

    /// The document exceeds a limit at this place.
    pub fn too_complex_at(place: Pos, message: impl Into<String>) -> Self {
        Self { location: Some((place.line, place.column)), ..Self::too_complex(message) }
    }
}

impl From<Refusal> for Vec<Refusal> {
    fn from(refusal: Refusal) -> Self {
        vec![refusal]
    }
}
