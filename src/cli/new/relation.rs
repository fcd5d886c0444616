//! A reference to an object of the organization: the parent of a resource, or another object to
//! which it may refer.

use super::{name::Name, template::documentation};

/// A reference to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// What the object is for the resource, for example `assignee`.
    pub(super) name: Name,
    /// What the object is, for example `member`: the name of its module and of its type.
    pub(super) target: Name,
    /// Whether the resource always refers to one. True of the parent only.
    pub(super) required: bool,
    /// Whether it is part of the product.
    pub(super) of_product: bool,
    /// The module of its rows.
    pub(super) entity: String,
    /// The table, without its schema.
    pub(super) table: String,
    /// The field of `Organization` that lists the objects.
    pub(super) list: String,
    /// Whether the tests of the object have a function that creates one.
    pub(super) has_creator: bool,
}

impl Relation {
    /// The module of the object, which has the same name in the program and in the tests.
    pub(super) fn module(&self) -> String {
        format!("crate::{}{}", if self.of_product { "app::" } else { "" }, self.target.snake())
    }

    pub(super) fn column_name(&self) -> String {
        format!("{}_id", self.name.snake())
    }

    fn option(&self, text: String) -> String {
        if self.required { text } else { format!("Option<{text}>") }
    }

    pub(super) fn id(&self) -> String {
        self.target.pascal() + "Id"
    }

    pub(super) fn column(&self) -> String {
        format!("    {} uuid{}", self.column_name(), if self.required { " NOT NULL" } else { "" })
    }

    pub(super) fn reference(&self) -> String {
        let (column, table) = (self.column_name(), &self.table);
        let on_delete = if self.required { "Cascade" } else { "SetNull" };
        format!("        Reference::tenant(\"{column}\", \"{table}\", OnDelete::{on_delete}),")
    }

    pub(super) fn entity_column(&self) -> String {
        format!("    pub {}: {},", self.column_name(), self.valid_type())
    }

    /// The field of the GraphQL type.
    pub(super) fn resolver(&self, resource: &Name) -> String {
        let (name, words, ty) = (self.name.snake(), self.name.words(), self.target.pascal());
        if !self.required {
            return format!(
                "    /// The {words}. Null if there is none.
                async fn {name}(&self, ctx: &Context<'_>) -> Option<Result<Loaded<{ty}>>> {{
                    let id = self.0.{name}_id?;
                    ctx.load({ty}ById(id)).await.map(|row| row.map({ty}).map(Loaded)).transpose()
                }}\n"
            );
        }
        let missing =
            format!("the {words} of {} {} is missing", resource.article(), resource.words());
        format!(
            "    /// The {words}.
            async fn {name}(&self, ctx: &Context<'_>) -> Result<Loaded<{ty}>> {{
                let row = ctx.load({ty}ById(self.0.{name}_id)).await?;
                row.map({ty}).map(Loaded).ok_or_else(|| Error::internal(\"{missing}\"))
            }}\n"
        )
    }

    pub(super) fn create_field(&self) -> String {
        let about = documentation(&format!("The ID of the {}.", self.described()));
        let ty = self.option("ID".to_owned());
        format!("{about}pub {}: {ty},", self.column_name())
    }

    pub(super) fn update_field(&self) -> String {
        let about = documentation(&format!("The ID of the {}. Null removes it.", self.described()));
        format!("{about}pub {}: MaybeUndefined<ID>,", self.column_name())
    }

    fn described(&self) -> String {
        let (words, target) = (self.name.words(), self.target.words());
        if words == target { words } else { format!("{words}, {} {target}", self.target.article()) }
    }

    pub(super) fn create_value(&self) -> String {
        let (column, words) = (self.column_name(), self.target.words());
        if self.required {
            format!("{column}: require_id(&input.{column}, \"{words}\")?,")
        } else {
            let parse = format!("map(|id| require_id(&id, \"{words}\")).transpose()?");
            format!("{column}: input.{column}.{parse},")
        }
    }

    pub(super) fn update_value(&self) -> String {
        let (column, words) = (self.column_name(), self.target.words());
        let parse = format!("id.map(|id| require_id(&id, \"{words}\")).transpose()");
        format!("{column}: nullable(input.{column}).try_map(|id| {parse})?,")
    }

    /// The type of the column, and of the operation's parameter.
    pub(super) fn valid_type(&self) -> String {
        self.option(self.id())
    }

    pub(super) fn apply(&self) -> String {
        let column = self.column_name();
        format!("self.{column}.apply_to(&mut row.{column});")
    }

    pub(super) fn set(&self) -> String {
        let column = self.column_name();
        format!("{column}: Set(new.{column}),")
    }

    /// The function that requires an object of this type.
    pub(super) fn require_function(&self) -> String {
        let (target, words, id) = (self.target.snake(), self.target.words(), self.id());
        let (entity, article) = (&self.entity, self.target.article());
        format!(
            "/// Requires {article} {words}, and prevents its deletion until the end of the transaction.
async fn require_{target}(session: &Session, id: Option<{id}>) -> Result<()> {{
    let Some(id) = id else {{ return Ok(()) }};
    let tenant = session.authorize(Permission::OrganizationRead)?;
    let key = (tenant.organization_id, id);
    let found = {entity}::Entity::find_by_id(key).lock(LockType::KeyShare).fetch_one(session).await?;
    found.map(drop).ok_or(Error::NotFound(\"{words}\"))
}}
"
        )
    }

    pub(super) fn require_new(&self) -> String {
        let id = format!("new.{}", self.column_name());
        let id = if self.required { format!("Some({id})") } else { id };
        format!("require_{}(session, {id})", self.target.snake())
    }

    pub(super) fn require_edit(&self) -> String {
        let (column, target) = (self.column_name(), self.target.snake());
        format!("if let Edit::Set(id) = edit.{column} {{ require_{target}(session, id).await?; }}")
    }
}
