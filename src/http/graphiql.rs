//! GraphiQL: the page in which engineers explore the API.

use std::sync::Arc;

use async_graphql::http::GraphiQLSource;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
};

use super::Server;
use crate::config::Introspection;

/// The token that the page sends, given the organization's slug: development only.
pub type TokenForPage = fn(slug: Option<&str>) -> Option<String>;

/// In development the bare address leads to the page.
pub(super) async fn front(State(server): State<Arc<Server>>) -> Response {
    match server.token_for_page {
        Some(_) => Redirect::temporary("/graphiql").into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(super) async fn page(
    State(server): State<Arc<Server>>,
    path: Option<Path<String>>,
) -> Response {
    if server.introspection == Introspection::Never {
        return (StatusCode::NOT_FOUND, "introspection is switched off\n").into_response();
    }
    let slug = path.map(|Path(slug)| slug);
    // The path is the client's text; only what a slug may hold goes into the page.
    let slug =
        slug.filter(|slug| slug.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    let endpoint =
        slug.as_ref().map_or("/graphql".to_owned(), |slug| format!("/org/{slug}/graphql"));
    let token = server.token_for_page.and_then(|token| token(slug.as_deref()));
    let mut source = GraphiQLSource::build().endpoint(&endpoint).title("tenantry");
    let authorization = token.map(|token| format!("Bearer {token}"));
    if let Some(authorization) = &authorization {
        source = source.header("Authorization", authorization);
    }
    Html(source.finish()).into_response()
}
