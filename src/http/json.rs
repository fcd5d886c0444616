//! Serializes JSON, and parses it from clients. Parsing limits the number of values, because a few
//! bytes of text can occupy a hundred times as much memory. Refuses duplicate names in an object,
//! because a proxy may have read the other one.

use std::{cell::Cell, fmt};

use axum::http::StatusCode;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::unsupported::Unsupported;

/// More objects, lists, strings and numbers than any request needs.
const MOST_VALUES: usize = 20_000;

/// Parses a text. `what` names it in errors. A byte order mark before it is ignored (RFC 8259,
/// section 8.1).
pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Value, Unsupported> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let left = Cell::new(MOST_VALUES);
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let value = One { left: &left }.deserialize(&mut text);
    value.and_then(|value| text.end().map(|()| value)).map_err(|error| {
        if left.get() == 0 {
            let message = format!("{what} has more than {MOST_VALUES} values");
            Unsupported(StatusCode::PAYLOAD_TOO_LARGE, message)
        } else {
            Unsupported::bad(format!("{what} is not JSON: {error}"))
        }
    })
}

/// A value, with the number of values that may still follow.
#[derive(Clone, Copy)]
struct One<'parse> {
    left: &'parse Cell<usize>,
}

impl<'text> DeserializeSeed<'text> for One<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'text>>(self, text: D) -> Result<Value, D::Error> {
        self.left.set(self.left.get().saturating_sub(1));
        if self.left.get() == 0 {
            return Err(D::Error::custom("too many values"));
        }
        text.deserialize_any(self)
    }
}

impl<'text> Visitor<'text> for One<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'text>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'text>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(self)?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name appears twice in an object"));
            }
        }
        Ok(Value::Object(map))
    }
}

/// Serializes a value. Cannot fail, because keys are strings and numbers are finite.
pub(super) fn serialize(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn valid_json_is_read_as_serde_json_reads_it(value in values()) {
            let text = value.to_string();
            let read = parse("the text", text.as_bytes()).ok();
            prop_assert_eq!(read, serde_json::from_str(&text).ok());
        }

        #[test]
        fn other_text_is_refused_as_serde_json_refuses_it(text: String) {
            let read = parse("the text", text.as_bytes()).ok();
            prop_assert_eq!(read, serde_json::from_str(&text).ok());
        }
    }

    #[test]
    fn a_duplicate_name_is_refused_at_any_depth() {
        for twice in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            let Unsupported(status, message) = parse("the text", twice.as_bytes()).unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(message.contains("twice"), "{message}");
        }
        assert!(parse("the text", br#"[{"a":1},{"a":{"a":2}}]"#).is_ok());
    }

    #[test]
    fn the_number_of_values_is_limited() {
        let list = |count| format!("[{}]", vec!["1"; count].join(","));
        assert!(parse("the text", list(MOST_VALUES - 2).as_bytes()).is_ok());
        let Unsupported(status, _) = parse("the text", list(MOST_VALUES).as_bytes()).unwrap_err();
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
