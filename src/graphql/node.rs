//! Objects of any type, by id: the interface `Node`, and the types that implement it.

use std::{borrow::Cow, fmt, sync::Arc};

use async_graphql::{
    ContextSelectionSet, ID, ObjectType, OutputType, Positioned, ServerResult, Value,
    indexmap::{IndexMap, IndexSet},
    parser::types::Field,
    registry::{MetaField, MetaType, MetaTypeId, Registry},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde::de::DeserializeOwned;

use crate::{
    declared::Declared,
    error::{Error, Result},
    permission::Permission,
};

/// A type that clients fetch by id.
#[derive(Clone, Copy)]
pub struct NodeType {
    /// The permission without which the objects do not exist for the caller.
    pub permission: Permission,
    /// The table.
    pub table: &'static str,
    /// The condition on its rows in SQL: `$2` is the current organization. A function, because some
    /// texts are put together at run time.
    pub condition: fn() -> &'static str,
    read: fn(serde_json::Value) -> Result<Node>,
    name: fn() -> Cow<'static, str>,
    register: fn(&mut Registry) -> String,
}

impl NodeType {
    /// The type `Object`, whose rows are `Row`.
    #[must_use]
    pub const fn of<Object, Row>(
        permission: Permission,
        table: &'static str,
        condition: fn() -> &'static str,
    ) -> Self
    where
        Object: ObjectType + From<Row> + 'static,
        Row: DeserializeOwned,
    {
        Self {
            permission,
            table,
            condition,
            read: |row| {
                let row: Row = serde_json::from_value(row).map_err(Error::internal)?;
                Ok(Node(Arc::new(Object::from(row))))
            },
            name: Object::type_name,
            register: Object::create_type_info,
        }
    }

    /// The name of the type in the schema.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        (self.name)()
    }

    /// Reads an object from its row as JSON.
    ///
    /// # Errors
    ///
    /// Fails if the row is not one of this type.
    pub fn read(&self, row: serde_json::Value) -> Result<Node> {
        (self.read)(row)
    }
}

impl fmt::Debug for NodeType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

/// An object that can be fetched by its ID.
#[derive(Clone)]
pub struct Node(Arc<dyn Object>);

impl fmt::Debug for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.name())
    }
}

/// An object of any type.
trait Object: Send + Sync {
    fn name(&self) -> Cow<'static, str>;

    fn resolve<'a>(
        &'a self,
        ctx: &'a ContextSelectionSet<'_>,
        field: &'a Positioned<Field>,
    ) -> BoxFuture<'a, ServerResult<Value>>;
}

impl<T: ObjectType> Object for T {
    fn name(&self) -> Cow<'static, str> {
        self.introspection_type_name()
    }

    fn resolve<'a>(
        &'a self,
        ctx: &'a ContextSelectionSet<'_>,
        field: &'a Positioned<Field>,
    ) -> BoxFuture<'a, ServerResult<Value>> {
        OutputType::resolve(self, ctx, field).boxed()
    }
}

impl OutputType for Node {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("Node")
    }

    fn introspection_type_name(&self) -> Cow<'static, str> {
        self.0.name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        registry.create_output_type::<Self, _>(MetaTypeId::Interface, |registry| {
            let mut possible_types = IndexSet::new();
            for node in NodeType::all() {
                (node.register)(registry);
                let name = node.name();
                registry.add_implements(&name, "Node");
                possible_types.insert(name.into_owned());
            }
            let mut id = MetaField::new("id", <ID as OutputType>::create_type_info(registry));
            id.description = Some("The ID of the object, a UUID.".to_owned());
            MetaType::Interface {
                name: "Node".to_owned(),
                description: Some("An object that can be fetched by its ID.".to_owned()),
                fields: IndexMap::from([("id".to_owned(), id)]),
                possible_types,
                extends: false,
                keys: None,
                visible: None,
                inaccessible: false,
                tags: Vec::new(),
                rust_typename: Some(std::any::type_name::<Self>()),
                directive_invocations: Vec::new(),
                requires_scopes: Vec::new(),
            }
        })
    }

    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        self.0.resolve(ctx, field).await
    }
}
