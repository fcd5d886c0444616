//! The schema: the areas' queries and mutations merged, and two ways to run a document through it.
//!
//! [`Api::read`] refuses whatever is wrong with a request before anything is opened for it;
//! [`Api::execute`] runs what was read, on a schema without extensions, because any would slow
//! every field.

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
    audit::{AuditLogConnection, AuditSubscription},
    billing::BillingMutation,
    error::{Error, ErrorCode, Result},
    graphql::{
        Limits, OperationCache, Refusal, Validator,
        document::{Document, GraphqlRequest, Operation},
    },
    invitation::{InvitationConnection, InvitationMutation},
    member::{MemberConnection, MemberMutation, MemberSubscription},
    node::NodeQuery,
    organization::{OrganizationMutation, OrganizationQuery},
    plan::PlanQuery,
    project::{ProjectConnection, ProjectMutation, ProjectSubscription},
    usage::UsageSubscription,
    user::{UserMutation, UserQuery},
};

/// Mutations that change where the session is, or end one transaction and begin another: they
/// tolerate no other beside them.
pub const ALONE: [&str; 7] = [
    "createOrganization",
    "acceptInvitation",
    "unlinkIdentity",
    "createCheckoutSession",
    "createBillingPortalSession",
    "cancelSubscription",
    "resumeSubscription",
];

/// Of these, those that the control database executes: they lead to another organization, or are
/// about the user.
pub const IN_CONTROL_DATABASE: [&str; 3] =
    ["createOrganization", "acceptInvitation", "unlinkIdentity"];

/// Mutations that are executed when the calls of the month are used up as well: they are the way
/// out.
pub const BILLING: [&str; 6] = [
    "changePlan",
    "startTrial",
    "cancelSubscription",
    "resumeSubscription",
    "createCheckoutSession",
    "createBillingPortalSession",
];

/// Mutations whose input could be guessed, or that send mail: a user has a number of attempts a
/// minute, committed or not. The answer to a slug says whether it is taken.
pub const GUESSABLE: [&str; 5] = [
    "acceptInvitation",
    "createOrganization",
    "inviteMember",
    "resendInvitation",
    "updateOrganization",
];

/// What can be asked.
#[derive(Debug, Default, MergedObject)]
pub struct Query(UserQuery, OrganizationQuery, NodeQuery, PlanQuery, ErrorQuery);

/// What can be changed. A mutation is atomic: when one of its root fields fails, `data` is null and
/// nothing was written. An error deeper in the answer, at a field that may be null, undoes nothing.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(
    OrganizationMutation,
    MemberMutation,
    InvitationMutation,
    ProjectMutation,
    BillingMutation,
    UserMutation,
    QueryAgain,
);

/// Reading in the request that changes.
#[derive(Debug, Default)]
pub struct QueryAgain;

#[Object]
impl QueryAgain {
    /// Everything that can be asked, as it is after the changes that stand before this field: for
    /// clients that show more than what was changed, such as limits and permissions.
    async fn query(&self) -> Query {
        Query::default()
    }
}

/// What can go wrong.
#[derive(Debug, Default)]
pub struct ErrorQuery;

#[Object]
impl ErrorQuery {
    /// Every value that `extensions.code` of an error may have; what each means is told by the
    /// enum's descriptions.
    async fn error_codes(&self) -> Vec<ErrorCode> {
        let items = <ErrorCode as async_graphql::resolver_utils::EnumType>::items();
        items.iter().map(|item| item.value).collect()
    }
}

/// What can be watched: each field sends an event after the change was committed, with what the
/// caller may see of it then. Over WebSocket (`graphql-transport-ws`) or server-sent events
/// (`graphql-sse`, distinct connections), at the same address.
#[derive(Debug, Default, MergedSubscription)]
pub struct Subscription(
    ProjectSubscription,
    MemberSubscription,
    AuditSubscription,
    UsageSubscription,
);

type ApiSchema = Schema<Query, Mutation, Subscription>;

/// The schema, ready to run.
#[derive(Clone)]
pub struct Api {
    rules: Arc<Validator>,
    meter: ApiSchema,
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
    /// The schema with its limits.
    ///
    /// # Errors
    ///
    /// When the schema breaks a rule of the specification.
    pub fn new(limits: Limits) -> Result<Self> {
        let builder = || build().validation_mode(ValidationMode::Fast).limit_recursive_depth(200);
        Ok(Self {
            rules: Arc::new(Validator::new(&sdl()).map_err(Error::internal)?),
            meter: builder().extension(MeasureOnly { complexity: limits.complexity }).finish(),
            executor: builder().finish(),
            limits,
            known: Arc::default(),
        })
    }

    /// Reads a request and holds it against limits and rules. Nothing is executed. A document that
    /// was not read before costs time: `turn` resolves to the right to read it, and is kept until
    /// that is done.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or why there is no turn.
    pub async fn read<T>(
        &self,
        request: GraphqlRequest,
        turn: impl Future<Output = Result<T, Vec<ServerError>>>,
    ) -> Result<Document, Vec<ServerError>> {
        let GraphqlRequest { query, operation_name, variables } = request;
        let key = (query, operation_name);
        let known = self.known.get(&key);
        let is_known = known.is_some();
        let _turn = if is_known { None } else { Some(turn.await?) };
        let document = known
            .map_or_else(
                || {
                    Operation::read(&key.0, key.1.as_deref(), &self.limits, &self.rules, &ALONE)
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
            let refusal = self.meter.execute_stream(request).next().await;
            refusal.map_or_else(Vec::new, |response| response.errors)
        } else {
            // Large, and rarely needed: most documents are known.
            Box::pin(self.meter.execute(request)).await.errors
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        if !is_known {
            self.known.put(key, &document.operation);
        }
        Ok(document)
    }

    /// Executes a subscription for one event.
    pub async fn tell(&self, request: Request) -> Option<Response> {
        self.executor.execute_stream(request).next().await
    }

    /// Executes a document that was read, with whatever its resolvers need.
    pub async fn execute(&self, request: Request) -> Response {
        self.executor.execute(request).await
    }
}

/// The executor's request for a document.
#[must_use]
pub fn to_request(document: &Document) -> Request {
    let mut request = Request::new(String::new()).variables(document.variables.clone());
    request.set_parsed_query(document.executable().clone());
    request
}

/// The schema in the schema definition language.
#[must_use]
pub fn sdl() -> String {
    build().finish().sdl_with_options(SDLExportOptions::new().include_specified_by())
}

fn build() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query::default(), Mutation::default(), Subscription::default())
        .override_output_type_description::<ProjectConnection>("A page of projects.")
        .override_output_type_description::<MemberConnection>("A page of members.")
        .override_output_type_description::<InvitationConnection>("A page of invitations.")
        .override_output_type_description::<AuditLogConnection>("A page of the audit log.")
        .override_output_type_description::<DateTime<Utc>>(
            "A time in UTC, as text of RFC 3339 with up to six digits of a second.",
        )
}

/// Computes the complexity, refuses what has too much of it, and executes nothing.
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
            let message =
                format!("the complexity of the document is {found}, the limit is {limit}");
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
