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
        let ty = match self.kind {
            Kind::String(_) | Kind::Text(_) => "&str".to_owned(),
            _ => self.input_type(),
        };
        // Long values count against the size limit of the response.
        let (context, ty) = match self.kind {
            Kind::Text(_) | Kind::Json => (", ctx: &Context<'_>", format!("Result<{ty}>")),
            _ => ("", ty),
        };
        let ty = self.option(&ty);
        let value = match (&self.kind, self.required) {
            (Kind::String(_), true) => format!("&self.0.{name}"),
            (Kind::String(_), false) => format!("self.0.{name}.as_deref()"),
            (Kind::Text(_), true) => {
                format!("ctx.spend(self.0.{name}.len())?;\nOk(&self.0.{name})")
            }
            (Kind::Text(_), false) => format!(
                "let {name} = self.0.{name}.as_deref()?;
                Some(ctx.spend({name}.len()).map(|()| {name}))"
            ),
            (Kind::Json, true) => format!("Json::returned(ctx, &self.0.{name})"),
            (Kind::Json, false) => {
                format!("self.0.{name}.as_ref().map(|value| Json::returned(ctx, value))")
            }
            (Kind::Date, true) => format!("Date(self.0.{name})"),
            (Kind::Date, false) => format!("self.0.{name}.map(Date)"),
            (Kind::Enum(..), true) => format!("self.0.{name}.into()"),
            (Kind::Enum(..), false) => format!("self.0.{name}.map(Into::into)"),
            _ => format!("self.0.{name}"),
        };
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
