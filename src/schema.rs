//! The GraphQL schema: the areas' queries, mutations and subscriptions merged, and the two ways to
//! run a document through it.
//!
//! [`Api::read`] rejects an invalid request before a session is opened. [`Api::execute`] runs a
//! validated document on a schema without extensions, because any extension would slow every field.

use std::sync::Arc;

use async_graphql::{
    MergedObject, MergedSubscription, Object, Request, Response, SDLExportOptions, Schema,
    SchemaBuilder, ServerError, ValidationMode, ValidationResult,
    extensions::{
        Extension, ExtensionContext, ExtensionFactory, NextExecute, NextSubscribe, NextValidation,
    },
};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream::BoxStream};

use crate::{
    area::Area as _,
    areas::{AreaMutation, AreaQuery, AreaSubscription, Areas},
    error::{Error, ErrorCode, Result},
    federation::{self, SubgraphQuery},
    graphql::{
        Limits, OperationCache, Refusal, Validator,
        document::{Document, GraphqlRequest, Operation},
    },
    node::NodeQuery,
};

/// The queries of the API.
#[derive(Debug, Default, MergedObject)]
pub struct Query(AreaQuery, NodeQuery, ErrorQuery, SubgraphQuery);

/// The mutations of the API. A mutation is atomic: if one of its root fields fails, `data` is null
/// and nothing was written. An error in a nullable field deeper in the response undoes nothing.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(AreaMutation, QueryAgain);

/// Reads in the request that makes a change.
#[derive(Debug, Default)]
pub struct QueryAgain;

#[Object]
impl QueryAgain {
    /// All queries, evaluated after the mutations that precede this field. Use it to read what a
    /// change affects, such as limits and permissions, in the same request. Beside
    /// `createOrganization`, `acceptInvitation` and `declineInvitation` it shows nothing of the
    /// organization that the request names.
    // In a supergraph, this field could not return the queries of other subgraphs.
    #[graphql(inaccessible)]
    async fn query(&self) -> Query {
        Query::default()
    }
}

/// The query for error codes.
#[derive(Debug, Default)]
pub struct ErrorQuery;

#[Object]
impl ErrorQuery {
    /// All values of `extensions.code` in errors. The descriptions of the enum explain each.
    async fn error_codes(&self) -> Vec<ErrorCode> {
        let items = <ErrorCode as async_graphql::resolver_utils::EnumType>::items();
        items.iter().map(|item| item.value).collect()
    }
}

/// The subscriptions of the API. Each sends an event after a change is committed, with what the
/// caller may see at that time. Connect to the same address over WebSocket
/// (`graphql-transport-ws`), server-sent events (`graphql-sse`, distinct connections) or multipart
/// responses (Apollo's `subscriptionSpec=1.0`).
#[derive(Debug, Default, MergedSubscription)]
pub struct Subscription(AreaSubscription);

type ApiSchema = Schema<Query, Mutation, Subscription>;

/// The executable schema.
#[derive(Clone)]
pub struct Api {
    rules: Arc<Validator>,
    measurer: ApiSchema,
    executor: ApiSchema,
    limits: Limits,
    known: Arc<OperationCache>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Api").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Api {
    /// Builds the schema with its limits, as a subgraph or without the fields for gateways.
    ///
    /// # Errors
    ///
    /// Fails when the schema breaks a rule of the specification.
    pub fn new(limits: Limits, federation: bool) -> Result<Self> {
        let build = || if federation { build_subgraph() } else { build() };
        let sdl = build().finish().sdl_with_options(sdl_options());
        let builder = || build().validation_mode(ValidationMode::Fast).limit_recursive_depth(200);
        Ok(Self {
            rules: Arc::new(Validator::new(&sdl, limits.suggestions).map_err(Error::internal)?),
            measurer: builder().extension(MeasureOnly { complexity: limits.complexity }).finish(),
            executor: builder().finish(),
            limits,
            known: Arc::default(),
        })
    }

    /// Parses and validates a request, and checks its limits. Nothing is executed. Reading a new
    /// document takes time: `permit` resolves to the permit for it, which is held until the
    /// document is read.
    ///
    /// # Errors
    ///
    /// Returns the problems of the request, or the reason for refusing a permit.
    pub async fn read<T>(
        &self,
        request: GraphqlRequest,
        permit: impl Future<Output = Result<T, Vec<ServerError>>>,
    ) -> Result<Document, Vec<ServerError>> {
        let GraphqlRequest { query, operation_name, variables } = request;
        let key = (query, operation_name);
        let mut known = self.known.get(&key);
        let permit = if known.is_some() { None } else { Some(permit.await?) };
        if permit.is_some() {
            // Another request may have read it while this one waited.
            known = self.known.get(&key);
        }
        let is_known = known.is_some();
        let _permit = permit.filter(|_| !is_known);
        let document = known
            .map_or_else(
                || {
                    Operation::read(&key.0, key.1.as_deref(), &self.limits, &self.rules)
                        .map(Arc::new)
                },
                Ok,
            )
            .and_then(|operation| Document::new(operation, &self.rules, variables))
            .map_err(|refusals| refusals.into_iter().map(ServerError::from).collect::<Vec<_>>())?;
        if is_known && !document.cost_varies() {
            return Ok(document);
        }
        let request = to_request(&document);
        let errors = if document.subscribes_to.is_some() {
            let refusal = self.measurer.execute_stream(request).next().await;
            refusal.map_or_else(Vec::new, |response| response.errors)
        } else {
            // Boxed, because the future is large and rarely needed: most documents are cached.
            Box::pin(self.measurer.execute(request)).await.errors
        };
        if !errors.is_empty() {
            // Limits of the whole operation, which have no place.
            let placed = errors.into_iter().map(|mut error| {
                if error.locations.is_empty() {
                    error.locations.push(document.place());
                }
                error
            });
            return Err(placed.collect());
        }
        if !is_known {
            self.known.put(key, &document.operation);
        }
        Ok(document)
    }

    /// Executes a subscription for one event.
    pub async fn execute_event(&self, request: Request) -> Option<Response> {
        self.executor.execute_stream(request).next().await
    }

    /// Executes a validated document. The request carries the data that its resolvers need.
    pub async fn execute(&self, request: Request) -> Response {
        self.executor.execute(request).await
    }
}

/// Builds the executor's request for a document.
#[must_use]
pub fn to_request(document: &Document) -> Request {
    let mut request = Request::new(String::new()).variables(document.variables.clone());
    request.set_parsed_query(document.executable().clone());
    request
}

/// The schema in the schema definition language.
#[must_use]
pub fn sdl() -> String {
    build().finish().sdl_with_options(sdl_options())
}

/// The schema of the subgraph, for the composition of a supergraph.
#[must_use]
pub fn subgraph_sdl() -> String {
    let schema = build().enable_subscription_in_federation().finish();
    federation::with_keys(&schema.sdl_with_options(sdl_options().federation()))
}

fn sdl_options() -> SDLExportOptions {
    SDLExportOptions::new().include_specified_by()
}

/// The schema without the fields for gateways.
fn build() -> SchemaBuilder<Query, Mutation, Subscription> {
    federation::without_fields(build_all())
}

/// The schema with the fields for gateways.
fn build_subgraph() -> SchemaBuilder<Query, Mutation, Subscription> {
    build_all().data(federation::Service { sdl: subgraph_sdl() })
}

fn build_all() -> SchemaBuilder<Query, Mutation, Subscription> {
    let schema = Schema::build(Query::default(), Mutation::default(), Subscription::default());
    Areas::describe(schema).override_output_type_description::<DateTime<Utc>>(
        "A time in UTC, formatted as RFC 3339 with up to six fractional digits.",
    )
}

/// Computes the complexity and rejects a document above the limit. It executes nothing.
struct MeasureOnly {
    complexity: usize,
}

impl ExtensionFactory for MeasureOnly {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self { complexity: self.complexity })
    }
}

#[sea_orm::prelude::async_trait::async_trait]
impl Extension for MeasureOnly {
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let result = next.run(ctx).await?;
        if result.complexity > self.complexity {
            let (found, limit) = (result.complexity, self.complexity);
            let message = format!(
                "The complexity of the document is {found}. The limit is {limit}. Select fewer fields, or smaller pages with `first`."
            );
            return Err(vec![Refusal::too_complex(message).into()]);
        }
        Ok(result)
    }

    fn subscribe<'s>(
        &self,
        _: &ExtensionContext<'_>,
        _: BoxStream<'s, Response>,
        _: NextSubscribe<'_>,
    ) -> BoxStream<'s, Response> {
        futures_util::stream::empty().boxed()
    }

    async fn execute(
        &self,
        _: &ExtensionContext<'_>,
        _: Option<&str>,
        _: NextExecute<'_>,
    ) -> Response {
        Response::default()
    }
}
