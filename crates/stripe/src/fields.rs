//! Fields of Stripe's objects.

use serde_json::Value;
use uuid::Uuid;

/// The id from a field that holds an id or the object itself.
pub(super) fn reference(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["id"].as_str()).map(ToOwned::to_owned)
}

/// The organization in a field of metadata.
pub(super) fn organization(value: &Value) -> Option<Uuid> {
    value.as_str().and_then(|text| Uuid::try_parse(text).ok())
}
