//! A Rust client, whose types `graphql_client` generates from the committed schema when the tests
//! are compiled.

use chrono::Utc;
use graphql_client::{GraphQLQuery, QueryBody, Response};
use serde::{Serialize, de::DeserializeOwned};

use crate::support::{App, Client};

type DateTime = chrono::DateTime<Utc>;

#[derive(GraphQLQuery)]
#[graphql(
    schema_path = "schema.graphql",
    query_path = "tests/it/rust_client/projects.graphql",
    response_derives = "Debug, PartialEq, Eq"
)]
struct Projects;

#[derive(GraphQLQuery)]
#[graphql(
    schema_path = "schema.graphql",
    query_path = "tests/it/rust_client/projects.graphql",
    response_derives = "Debug"
)]
struct CreateProject;

async fn ask<V: Serialize, T: DeserializeOwned>(
    client: &Client,
    query: QueryBody<V>,
) -> Response<T> {
    let reply = client.send(&serde_json::to_value(query).unwrap()).await;
    serde_json::from_value(reply.body).unwrap()
}

#[tokio::test]
async fn generated_types_match_the_server_s_responses() {
    let app = App::start().await;
    let owner = app.user("acme-owner");
    let input = create_project::CreateProjectInput { name: "Typed".to_owned(), description: None };
    let query = CreateProject::build_query(create_project::Variables { input });
    let created: Response<create_project::ResponseData> = ask(&owner, query).await;
    assert_eq!(created.data.unwrap().create_project.project.name, "Typed");

    let query = Projects::build_query(projects::Variables { first: 1 });
    let response: Response<projects::ResponseData> = ask(&owner, query).await;
    let organization = response.data.unwrap().organization.unwrap();
    assert_eq!(organization.viewer_role, projects::Role::OWNER);
    let project = &organization.projects.nodes[0];
    assert_eq!(project.created_by.as_ref().unwrap().name.as_deref(), Some("Olivia"));
    assert!((Utc::now() - project.created_at).num_seconds() < 60);

    let input = create_project::CreateProjectInput { name: String::new(), description: None };
    let query = CreateProject::build_query(create_project::Variables { input });
    let refused: Response<create_project::ResponseData> = ask(&owner, query).await;
    let extensions = refused.errors.unwrap()[0].extensions.clone().unwrap();
    assert_eq!(extensions["code"], "BAD_USER_INPUT");
    assert_eq!(extensions["field"], "input.name");
}
