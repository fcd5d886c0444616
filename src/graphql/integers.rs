//! Reads JSON numbers without a fractional part, such as `3.0` and `30e-1`, as integers where a
//! variable has the type `Int` or `ID` (GraphQL specification, section 3.5). JSON does not tell the
//! two apart, and some languages write every number with a decimal point.

use apollo_compiler::{
    Schema, ast::Type, response::serde_json_bytes::Value as JsonValue, schema::ExtendedType,
};
use serde_json::Number;

/// Changes such numbers in a value of this type, at any depth.
pub(super) fn read_integers(schema: &Schema, ty: &Type, value: &mut JsonValue) {
    match (ty, value) {
        (Type::List(of) | Type::NonNullList(of), JsonValue::Array(items)) => {
            for item in items {
                read_integers(schema, of, item);
            }
        }
        // A single value stands for a list with this value.
        (Type::List(of) | Type::NonNullList(of), value) => read_integers(schema, of, value),
        (Type::Named(name) | Type::NonNullNamed(name), JsonValue::Object(values)) => {
            let Some(ExtendedType::InputObject(input)) = schema.types.get(name) else { return };
            for (name, value) in values.iter_mut() {
                if let Some(field) = input.fields.get(name.as_str()) {
                    read_integers(schema, &field.ty, value);
                }
            }
        }
        (Type::Named(name) | Type::NonNullNamed(name), JsonValue::Number(number)) => {
            if let ("Int" | "ID", Some(integer)) = (name.as_str(), integer(number)) {
                *number = integer.into();
            }
        }
        _ => {}
    }
}

/// The integer that a number with a decimal point or an exponent equals.
fn integer(number: &Number) -> Option<i64> {
    let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0)?;
    format!("{float:.0}").parse().ok()
}
