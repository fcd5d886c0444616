//! The scalar for JSON.

use async_graphql::{Context, InputValueResult, Scalar, ScalarType, Value};

use super::ContextExt;
use crate::error::Result;

/// A JSON value.
#[derive(Clone, Debug)]
pub struct Json(pub serde_json::Value);

impl Json {
    /// Returns a value in a response.
    ///
    /// # Errors
    ///
    /// Fails when the response is too large.
    pub fn returned(ctx: &Context<'_>, value: &serde_json::Value) -> Result<Self> {
        ctx.spend(size(value))?;
        Ok(Self(value.clone()))
    }
}

/// The approximate length of a value as text, in bytes.
fn size(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(size).sum(),
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + size(value)).sum()
        }
        _ => 8,
    }
}

/// Any JSON value (RFC 8259).
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value.into_json()?))
    }

    fn to_value(&self) -> Value {
        Value::from_json(self.0.clone()).unwrap_or_default()
    }
}
