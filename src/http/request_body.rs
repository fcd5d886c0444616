//! Parses HTTP requests into GraphQL requests. Refuses a body that is too long, too slow, not JSON
//! or of the wrong shape.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::LengthLimitError;
use serde_json::{Map, Value};

use super::{
    json::parse, media_range::MediaRange, persisted_documents::Asked, unsupported::Unsupported,
};
use crate::graphql::document::GraphqlRequest;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = value.and_then(MediaRange::parse);
    content_type.is_some_and(|given| given.is("application", "json") && given.is_utf8())
}

pub(super) enum RequestBody {
    One(Asked),
    /// A member that is not an operation does not affect the others.
    Batch(Vec<Result<Asked, Unsupported>>),
}

/// Reads a body. Refuses one that is too long or too slow. A body that announces too many bytes or
/// a content coding is refused before it is read.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<Bytes, Unsupported> {
    if !is_plain(headers) {
        let message = "Content-Encoding must be identity: send the body uncompressed".to_owned();
        return Err(Unsupported(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    // With a Content-Length, this is its value.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, most)).await;
    let read = read.map_err(|_| {
        Unsupported(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".to_owned())
    })?;
    read.map_err(|error| {
        let source = std::error::Error::source(&error);
        if source.is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) {
            too_large(most)
        } else {
            Unsupported::bad("the body ended early")
        }
    })
}

fn too_large(most: usize) -> Unsupported {
    let message = format!("the body has more than {most} bytes");
    Unsupported(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// Whether the body has no content coding. The server decodes none, so that a small body cannot
/// expand to a large one.
fn is_plain(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.all(|coding| {
        coding.trim_ascii().is_empty() || coding.trim_ascii().eq_ignore_ascii_case(b"identity")
    })
}

pub(super) fn from_body(bytes: &[u8]) -> Result<RequestBody, Unsupported> {
    match parse("the body", bytes)? {
        Value::Object(fields) => from_fields(fields).map(RequestBody::One),
        Value::Array(items) if items.is_empty() => Err(Unsupported::bad("the batch is empty")),
        Value::Array(items) => {
            let requests = items.into_iter().map(|item| match item {
                Value::Object(fields) => from_fields(fields),
                _ => Err(Unsupported::bad("each operation of a batch must be an object")),
            });
            Ok(RequestBody::Batch(requests.collect()))
        }
        _ => Err(Unsupported::bad("the body must be an object")),
    }
}

pub(super) fn from_query(query: &str) -> Result<Asked, Unsupported> {
    let mut fields = Map::new();
    for (name, text) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = match &*name {
            "query" | "operationName" | "documentId" => Value::String(text.into_owned()),
            "variables" | "extensions" if text.is_empty() => Value::Null,
            "variables" | "extensions" => parse(&name, text.as_bytes())?,
            _ => continue,
        };
        if fields.insert(name.clone().into_owned(), value).is_some() {
            return Err(Unsupported::bad(format!("{name} appears twice in the URL")));
        }
    }
    from_fields(fields)
}

/// Parses the operation in the fields of a JSON object.
pub(super) fn from_fields(mut fields: Map<String, Value>) -> Result<Asked, Unsupported> {
    let extensions = match fields.remove("extensions") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(extensions)) => extensions,
        Some(_) => return Err(Unsupported::bad("extensions must be an object")),
    };
    let name = match text(&mut fields, "documentId")? {
        Some(id) => Some(id),
        None => persisted(&extensions)?,
    };
    let query = match text(&mut fields, "query")?.filter(|query| !query.trim().is_empty()) {
        Some(query) => query,
        None if name.is_some() => String::new(),
        None => return Err(Unsupported::bad("query is missing")),
    };
    let operation_name = text(&mut fields, "operationName")?.filter(|name| !name.is_empty());
    let variables = match fields.remove("variables") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(_) => return Err(Unsupported::bad("variables must be an object")),
    };
    Ok(Asked { request: GraphqlRequest { query, operation_name, variables }, name })
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Unsupported> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Unsupported::bad(format!("{name} must be a string"))),
    }
}

/// The hash of a persisted query, in the form of Apollo's clients.
fn persisted(extensions: &Map<String, Value>) -> Result<Option<String>, Unsupported> {
    let Some(persisted) = extensions.get("persistedQuery") else {
        return Ok(None);
    };
    match (&persisted["version"], persisted["sha256Hash"].as_str()) {
        (Value::Number(version), Some(hash)) if version.as_u64() == Some(1) => {
            Ok(Some(hash.to_ascii_lowercase()))
        }
        _ => Err(Unsupported::bad("persistedQuery must have version 1 and a sha256Hash")),
    }
}
