//! The API as a subgraph of Apollo Federation 2: what gateways query, and the schema from which a
//! supergraph is composed.
//!
//! Every type of the interface `Node` is an entity with the key `id`. `_entities` reads exactly
//! what `nodes` reads. A schema is built with these fields, or without any trace of them.

use std::borrow::Cow;

use async_graphql::{
    Any, Context, ContextSelectionSet, ID, InputType, Object, OutputType, Positioned,
    SchemaBuilder, ServerError, ServerResult, SimpleObject, Value,
    parser::types::Field,
    registry::{MetaType, MetaTypeId, Registry},
};

use crate::{
    error::{Error, Result},
    graphql::{Node, parse_id},
    node,
};

/// The fields of the query type and the types that only gateways use.
const FIELDS: [&str; 2] = ["_entities", "_service"];
const TYPES: [&str; 3] = ["_Any", ENTITY, "_Service"];
const ENTITY: &str = "_Entity";

/// An object that other subgraphs refer to by its ID.
#[derive(Debug)]
pub struct Entity(Node);

/// A union has no fields, so the object resolves its selections as it does for `Node`.
impl OutputType for Entity {
    fn type_name() -> Cow<'static, str> {
        ENTITY.into()
    }

    fn introspection_type_name(&self) -> Cow<'static, str> {
        self.0.introspection_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        registry.create_output_type::<Self, _>(MetaTypeId::Union, |registry| {
            let nodes = match registry.create_fake_output_type::<Node>() {
                MetaType::Interface { possible_types, .. } => Some(possible_types),
                _ => None,
            };
            MetaType::Union {
                name: ENTITY.to_owned(),
                description: Some("An object that other subgraphs refer to by its ID.".to_owned()),
                possible_types: nodes.unwrap_or_default(),
                visible: None,
                inaccessible: false,
                tags: Vec::new(),
                rust_typename: Some(std::any::type_name::<Self>()),
                directive_invocations: Vec::new(),
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

/// The subgraph.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(name = "_Service")]
pub struct Service {
    /// The schema of the subgraph, from which a supergraph is composed.
    pub sdl: String,
}

/// The queries of gateways.
#[derive(Debug, Default)]
pub struct SubgraphQuery;

#[Object]
impl SubgraphQuery {
    /// The objects to which other subgraphs refer, in the order of the representations. An entry is
    /// null if the current organization has no such object. Errors: `BAD_USER_INPUT` for one
    /// without the type and the ID of an entity.
    // A gateway asks for all references of a list at once, so only the complexity limits how many.
    #[graphql(
        name = "_entities",
        complexity = "1 + representations.len() * child_complexity.max(1)"
    )]
    async fn entities(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The objects as `{ __typename, id }`. Other keys are ignored.")]
        representations: Vec<Any>,
    ) -> Result<Vec<Option<Entity>>> {
        let (types, ids) = keys(ctx, &representations)?;
        let found = node::find_nodes(ctx, ids.iter().map(parse_id).collect()).await?;
        let entity = |(node, of): (Option<Node>, &str)| {
            node.filter(|node| node.introspection_type_name() == of).map(Entity)
        };
        Ok(found.into_iter().zip(types).map(entity).collect())
    }

    /// The subgraph. Counts as introspection.
    #[graphql(name = "_service")]
    async fn service<'ctx>(&self, ctx: &Context<'ctx>) -> Result<&'ctx Service> {
        ctx.data_opt().ok_or_else(|| Error::internal("the server is not a subgraph"))
    }
}

/// The types and the IDs of representations.
fn keys<'any>(
    ctx: &Context<'_>,
    representations: &'any [Any],
) -> Result<(Vec<&'any str>, Vec<ID>)> {
    let union = ctx.schema_env.registry.types.get(ENTITY);
    let is_entity = |name: &str| union.is_some_and(|union| union.is_possible_type(name));
    let malformed =
        |index, problem| Error::bad_input("representations", format!("entry {index}: {problem}"));
    let keys = representations.iter().enumerate().map(|(index, representation)| {
        let Value::Object(fields) = &representation.0 else {
            return Err(malformed(index, "must be an object"));
        };
        let of = match fields.get("__typename") {
            Some(Value::String(name)) if is_entity(name) => name.as_str(),
            _ => return Err(malformed(index, "`__typename` must name an entity")),
        };
        let id = ID::parse(fields.get("id").cloned());
        Ok((of, id.map_err(|_| malformed(index, "`id` must be an ID"))?))
    });
    keys.collect()
}

/// Adds the keys of the entities to the schema of the subgraph.
#[must_use]
pub fn with_keys(sdl: &str) -> String {
    sdl.replace(" implements Node {\n", " implements Node @key(fields: \"id\") {\n")
}

/// Removes the fields and types of this file from a schema.
#[must_use]
pub fn without_fields<Q, M, S>(schema: SchemaBuilder<Q, M, S>) -> SchemaBuilder<Q, M, S> {
    schema.register_output_type::<Removed>()
}

/// The builder of a schema gives access to its types only while it registers one.
struct Removed;

impl OutputType for Removed {
    fn type_name() -> Cow<'static, str> {
        "Removed".into()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        registry.types.retain(|name, _| !TYPES.contains(&name.as_str()));
        if let Some(MetaType::Object { fields, .. }) = registry.types.get_mut(&registry.query_type)
        {
            fields.retain(|name, _| !FIELDS.contains(&name.as_str()));
        }
        Self::qualified_type_name()
    }

    async fn resolve(
        &self,
        _: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        Err(ServerError::new("the type has no values", Some(field.pos)))
    }
}
