//! How a field is stored: its column in the step and in the entity.

use super::{
    field::{Field, Kind, variants},
    name::Name,
};

impl Field {
    /// The column in the step.
    pub(super) fn column(&self, resource: &Name) -> String {
        let ty = match &self.kind {
            Kind::String(_) | Kind::Text(_) => "text".to_owned(),
            Kind::Integer => "integer".to_owned(),
            Kind::Boolean => "boolean".to_owned(),
            Kind::Date => "date".to_owned(),
            Kind::Timestamp => "timestamptz".to_owned(),
            Kind::Uuid => "uuid".to_owned(),
            Kind::Json => "jsonb".to_owned(),
            Kind::Enum(..) => format!("app.{}_{}", resource.snake(), self.name.snake()),
        };
        let null = if self.required { " NOT NULL" } else { "" };
        let default = if self.defaults_to_false() { " DEFAULT false" } else { "" };
        format!("    {} {ty}{null}{default}", self.name.snake())
    }

    /// The statement that creates its type, if it has one.
    pub(super) fn type_statement(&self, resource: &Name) -> Option<String> {
        let Kind::Enum(values, _) = &self.kind else { return None };
        let values: Vec<_> = values.iter().map(|value| format!("'{}'", value.snake())).collect();
        let name = format!("app.{}_{}", resource.snake(), self.name.snake());
        Some(format!("Change::once(\"CREATE TYPE {name} AS ENUM ({})\"),", values.join(", ")))
    }

    /// The column in the entity.
    pub(super) fn entity_column(&self) -> String {
        // The other types of SeaORM have the same names as those of the GraphQL API.
        let ty = match self.kind {
            Kind::Timestamp => "DateTimeUtc".to_owned(),
            _ => self.input_type(),
        };
        format!("    pub {}: {},", self.name.snake(), self.option(&ty))
    }

    /// The enum in the entity.
    pub(super) fn entity_enum(&self, resource: &Name) -> Option<String> {
        let Kind::Enum(values, ty) = &self.kind else { return None };
        let name = format!("{}_{}", resource.snake(), self.name.snake());
        Some(format!(
            "/// The enum `app.{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = \"String\", db_type = \"Enum\", enum_name = \"{name}\", rename_all = \"snake_case\")]
#[serde(rename_all = \"snake_case\")]
pub enum {ty} {{
{}}}
",
            variants(values)
        ))
    }
}
