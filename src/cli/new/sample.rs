//! Values of a field in the test of its resource.

use super::{
    field::{Field, JSON, Kind, underscores},
    name::Name,
};

impl Field {
    /// Two valid values in a test, as JSON.
    pub(super) fn samples(&self) -> [String; 2] {
        match &self.kind {
            Kind::String(_) | Kind::Text(_) => ["\"First\"".to_owned(), "\"Second\"".to_owned()],
            Kind::Integer => ["1".to_owned(), "2".to_owned()],
            Kind::Boolean => ["false".to_owned(), "true".to_owned()],
            Kind::Date => ["\"2030-01-31\"".to_owned(), "\"2031-02-28\"".to_owned()],
            Kind::Timestamp => {
                ["2030-01-31", "2031-02-28"].map(|day| format!("\"{day}T12:00:00+00:00\""))
            }
            Kind::Uuid => [
                "\"67e55044-10b1-426f-9247-bb680e5fe0c8\"".to_owned(),
                "\"67e55044-10b1-426f-9247-bb680e5fe0c9\"".to_owned(),
            ],
            Kind::Json => ["{ \"a\": [1] }".to_owned(), "[]".to_owned()],
            Kind::Enum(values, _) => {
                let value = |value: Option<&Name>| {
                    format!("\"{}\"", value.map_or("", Name::snake).to_uppercase())
                };
                [value(values.first()), value(values.last())]
            }
        }
    }

    /// Values in a test that are refused.
    pub(super) fn bad_samples(&self) -> Vec<String> {
        let mut bad = Vec::new();
        match self.kind {
            Kind::String(most) | Kind::Text(most) => {
                if self.required {
                    bad.push("json!(\" \")".to_owned());
                }
                bad.push(format!("json!(\"x\".repeat({}))", underscores(most + 1)));
                bad.push("json!(\"a\\u{0}b\")".to_owned());
            }
            Kind::Json => bad.push(format!("json!(\"x\".repeat({}))", underscores(JSON))),
            _ => {}
        }
        bad
    }
}
