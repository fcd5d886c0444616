//! A field in the GraphQL API: of the type, and of the inputs.

use super::{
    field::{Field, JSON, Kind, commas, variants},
    name::Name,
    template::documentation,
};

impl Field {
    /// The enum in the GraphQL API.
    pub(super) fn graphql_enum(&self, resource: &Name) -> Option<String> {
        let Kind::Enum(values, ty) = &self.kind else { return None };
        Some(format!(
            "/// The {} of {} {}.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = \"{}::{ty}\")]
pub enum {ty} {{
{}}}
",
            self.name.words(),
            resource.article(),
            resource.words(),
            resource.snake(),
            variants(values)
        ))
    }

    /// What the field is, and its limits, as sentences.
    fn about(&self, null: &str) -> String {
        let words = self.name.words();
        let stem = |end: &str| words.strip_suffix(end).map(ToOwned::to_owned);
        let subject = match &self.kind {
            Kind::Boolean => format!("Whether it is {words}."),
            Kind::Date if let Some(stem) = stem(" on") => format!("The {stem} date."),
            Kind::Timestamp if let Some(stem) = stem("s at") => format!("When it {stem}s."),
            Kind::Timestamp if let Some(stem) = stem("ed at") => format!("When it was {stem}ed."),
            Kind::Timestamp if let Some(stem) = stem(" at") => format!("The {stem} time."),
            _ => format!("The {words}."),
        };
        let limit = match &self.kind {
            Kind::String(most) => format!(" 1 to {} characters, on one line.", commas(*most)),
            Kind::Text(most) if self.required => format!(" 1 to {} characters.", commas(*most)),
            Kind::Text(most) => format!(" Up to {} characters.", commas(*most)),
            Kind::Json => format!(" Up to {} bytes.", commas(JSON)),
            _ => String::new(),
        };
        format!("{subject}{limit}{null}")
    }

    /// The field of the GraphQL type.
    pub(super) fn resolver(&self) -> String {
        let name = self.name.snake();
        let about = self.about(if self.required { "" } else { " Null if there is none." });
        let (context, ty, value) = match (&self.kind, self.required) {
            (Kind::String(_), true) => (false, "&str".to_owned(), format!("&self.0.{name}")),
            (Kind::String(_), false) => {
                (false, "Option<&str>".to_owned(), format!("self.0.{name}.as_deref()"))
            }
            (Kind::Text(_), true) => {
                let value = format!("ctx.spend(self.0.{name}.len())?;\nOk(&self.0.{name})");
                (true, "Result<&str>".to_owned(), value)
            }
            (Kind::Text(_), false) => {
                let value = format!(
                    "let {name} = self.0.{name}.as_deref()?;
                    Some(ctx.spend({name}.len()).map(|()| {name}))"
                );
                (true, "Option<Result<&str>>".to_owned(), value)
            }
            (Kind::Json, true) => {
                (true, "Result<Json>".to_owned(), format!("Json::returned(ctx, &self.0.{name})"))
            }
            (Kind::Json, false) => {
                let value =
                    format!("self.0.{name}.as_ref().map(|value| Json::returned(ctx, value))");
                (true, "Option<Result<Json>>".to_owned(), value)
            }
            (Kind::Date, true) => (false, "Date".to_owned(), format!("Date(self.0.{name})")),
            (Kind::Date, false) => {
                (false, "Option<Date>".to_owned(), format!("self.0.{name}.map(Date)"))
            }
            (Kind::Enum(_, ty), true) => (false, ty.clone(), format!("self.0.{name}.into()")),
            (Kind::Enum(_, ty), false) => {
                (false, format!("Option<{ty}>"), format!("self.0.{name}.map(Into::into)"))
            }
            (_, _) => (false, self.option(&self.input_type()), format!("self.0.{name}")),
        };
        let context = if context { ", ctx: &Context<'_>" } else { "" };
        format!(
            "{}async fn {name}(&self{context}) -> {ty} {{\n{value}\n}}\n",
            documentation(&about)
        )
    }

    pub(super) fn input_type(&self) -> String {
        match &self.kind {
            Kind::String(_) | Kind::Text(_) => "String",
            Kind::Integer => "i32",
            Kind::Boolean => "bool",
            Kind::Date => "Date",
            Kind::Timestamp => "DateTime<Utc>",
            Kind::Uuid => "Uuid",
            Kind::Json => "Json",
            Kind::Enum(_, ty) => ty,
        }
        .to_owned()
    }

    /// The field of the input that creates.
    pub(super) fn create_field(&self) -> String {
        let default = if self.defaults_to_false() { " Defaults to false." } else { "" };
        let attribute = if self.defaults_to_false() { "#[graphql(default)]\n" } else { "" };
        let (name, ty) = (self.name.snake(), self.option(&self.input_type()));
        format!("{}{attribute}pub {name}: {ty},", documentation(&self.about(default)))
    }

    /// The field of the input that updates.
    pub(super) fn update_field(&self) -> String {
        let null = if self.required { " Null is an error." } else { " Null removes it." };
        let name = self.name.snake();
        let about = documentation(&self.about(null));
        format!("{about}pub {name}: MaybeUndefined<{}>,", self.input_type())
    }
}
