//! The schema: the areas' queries and mutations merged, and two ways to run a document through it.
//!
//! [`Api`] executes and carries no extension, because any would slow every field. [`Api::validate`] runs the rules
//! over a document without executing it, so that nothing is opened for one that will be refused.

use std::sync::Arc;

use async_graphql::{
    EmptySubscription, MergedObject, Object, Request, Response, Schema, SchemaBuilder, ServerError,
    ValidationMode, ValidationResult, Value, Variables,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute, NextValidation},
};

use crate::{
    audit::AuditLogConnection,
    error::ErrorCode,
    graphql::document::{Document, Limits, Refusal},
    invitation::{InvitationConnection, InvitationMutation},
    member::{MemberConnection, MemberMutation},
    node::NodeQuery,
    organization::{OrganizationMutation, OrganizationQuery},
    plan::PlanQuery,
    project::{ProjectConnection, ProjectMutation},
    user::UserQuery,
};

/// Mutations that change where the session is: they tolerate no other beside them.
pub const ALONE: [&str; 2] = ["createOrganization", "acceptInvitation"];

/// What can be asked.
#[derive(Debug, Default, MergedObject)]
pub struct Query(UserQuery, OrganizationQuery, NodeQuery, PlanQuery, ErrorQuery);

/// What can be changed. A mutation is atomic: when one of its fields fails, `data` is null and nothing was written.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(OrganizationMutation, MemberMutation, InvitationMutation, ProjectMutation);

/// What can go wrong.
#[derive(Debug, Default)]
pub struct ErrorQuery;

#[Object]
impl ErrorQuery {
    /// Every value that `extensions.code` of an error may have; what each means is told by the enum's descriptions.
    async fn error_codes(&self) -> Vec<ErrorCode> {
        let items = <ErrorCode as async_graphql::resolver_utils::EnumType>::items();
        items.iter().map(|item| item.value).collect()
    }
}

type ApiSchema = Schema<Query, Mutation, EmptySubscription>;

/// The schema, ready to run.
#[derive(Clone)]
pub struct Api {
    executor: ApiSchema,
    validator: ApiSchema,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// The schema with its limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            executor: build().validation_mode(ValidationMode::Fast).finish(),
            validator: build().extension(ValidateOnly { complexity: limits.complexity }).finish(),
        }
    }

    /// Checks a document against the schema, and its complexity against the limit.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub async fn validate(
        &self,
        document: &Document,
        operation_name: Option<&str>,
        variables: &Variables,
    ) -> Result<(), Vec<ServerError>> {
        let request = request(document, operation_name, variables.clone());
        let mut errors = self.validator.execute(request).await.errors;
        for error in &mut errors {
            let values = error.extensions.get_or_insert_default();
            if values.get("code").is_none() {
                values.set("code", ErrorCode::GraphqlValidationFailed.name());
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Executes a document that was validated.
    pub async fn execute(&self, request: Request) -> Response {
        self.executor.execute(request).await
    }
}

/// A request for a parsed document.
#[must_use]
pub fn request(document: &Document, operation_name: Option<&str>, variables: Variables) -> Request {
    let mut variables = variables;
    for name in &document.optional_variables {
        variables.entry(name.clone()).or_insert(Value::Null);
    }
    let mut request = Request::new(String::new()).variables(variables);
    request.operation_name = operation_name.map(str::to_owned);
    request.set_parsed_query(document.parsed.clone());
    request
}

/// The schema in the schema definition language.
#[must_use]
pub fn sdl() -> String {
    build().finish().sdl()
}

fn build() -> SchemaBuilder<Query, Mutation, EmptySubscription> {
    Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .override_output_type_description::<ProjectConnection>("A page of projects.")
        .override_output_type_description::<MemberConnection>("A page of members.")
        .override_output_type_description::<InvitationConnection>("A page of invitations.")
        .override_output_type_description::<AuditLogConnection>("A page of the audit log.")
}

/// Stops after validation, and refuses what is too complex under a code of its own.
struct ValidateOnly {
    complexity: usize,
}

impl ExtensionFactory for ValidateOnly {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self { complexity: self.complexity })
    }
}

#[sea_orm::prelude::async_trait::async_trait]
impl Extension for ValidateOnly {
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

    async fn execute(
        &self,
        _: &ExtensionContext<'_>,
        _: Option<&str>,
        _: NextExecute<'_>,
    ) -> Response {
        Response::default()
    }
}
