//! The schema as a file, under the same setting as introspection.

use std::sync::{Arc, LazyLock};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use uuid::Uuid;

use super::{Server, graphql, negotiate::MediaType};
use crate::{config::Introspection, schema};

static SDL: LazyLock<String> = LazyLock::new(schema::sdl);

pub(super) async fn serve(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let allowed = match server.introspection {
        Introspection::Always => true,
        Introspection::Never => false,
        Introspection::Authenticated => match graphql::authenticate(&server, &headers).await {
            Ok(_) => true,
            Err(error) => return graphql::unauthenticated(MediaType::Json, error, Uuid::new_v4()),
        },
    };
    if !allowed {
        return (StatusCode::NOT_FOUND, "introspection is switched off\n").into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "application/graphql; charset=utf-8")];
    (content_type, SDL.as_str()).into_response()
}
