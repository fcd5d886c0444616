//! `docs/api.md`: the API for those who write clients, made from the schema and the enum of errors,
//! so that it cannot be out of date.

use std::fmt::Write as _;

use apollo_compiler::{
    Node, Schema,
    ast::FieldDefinition,
    schema::{Component, ExtendedType},
};
use async_graphql::resolver_utils::EnumType;

use crate::{error::ErrorCode, schema::sdl};

const INTRODUCTION: &str = "# The API

Made from the schema and the list of errors by `tenantry schema --docs`. The whole schema is [schema.graphql](../schema.graphql).

| address | organization |
| --- | --- |
| `/org/{slug}/graphql` | the one in the path |
| `/graphql` | the one that the token claims, if any |

Requests are POST with `Content-Type: application/json` and `Authorization: Bearer TOKEN`, or GET for queries. With `Accept: application/graphql-response+json` the HTTP
status tells what happened; with `application/json` every well-formed request gets 200, as older clients expect. A batch is an array of up to ten operations.
A body holds up to 20,000 JSON values, and no object in it a name twice; a document goes over the schema (`__schema`, `__type`) three times at the most, aliases within counted.

- **Persisted queries**: send `extensions.persistedQuery` as Apollo's and urql's clients do, or `documentId`. With `TRUSTED_DOCUMENTS` only the documents of a manifest are executed, as
  graphql-codegen, relay-compiler and Apollo write it.
- **Subscriptions**: over WebSocket with the protocol `graphql-transport-ws` (the token in `connectionParams.Authorization`), or as server-sent events with `Accept: text/event-stream`
  (graphql-sse, distinct connections). Browsers allow six connections to a host over HTTP/1.1, those of all tabs together: prefer the WebSocket, or HTTP/2.
- **Without gaps**: subscribe first, then ask for what you show: over the same WebSocket, or once the event stream has begun. An event tells what a change left behind, so one that comes twice, or before the answer, does no harm. A subscription
  ends with an error when its token expires, when the person may see no more, when the organization's calls are used up (`PLAN_LIMIT_EXCEEDED`), when it is too slow, and when events may have been lost: then subscribe and ask again.
- **Limits of subscriptions**: a user and an organization may have a limited number open at the same time; one more is refused with `RATE_LIMITED`: end one that is not needed, or wait for `extensions.retryAfter` seconds. An event
  counts as a call, once for all subscriptions of a user to the same operation with the same variables.
- **When a WebSocket closes**: 4403 when its token has expired, after its subscriptions have ended with `UNAUTHENTICATED` and answers under way were sent: connect again with a new token. 1000 when no operation ran for a minute: connect
  again for the next one. 1001 when the server stops, 1013 when it needs the connection for others: connect again, later. The other codes are those of the protocol, and mean a fault of the client.
- **After a change**: `mutation { createProject(…) { project { id } } query { organization { entitlements { used } } } }` reads in the same request what else has changed.
- **Repeating safely**: send a mutation with the header `Idempotency-Key`, a UUID of your own, and repeat it with the same key when no answer came, after `UNAVAILABLE` with the outcome `UNKNOWN` too. It is done once, and answered alike
  (`Idempotency-Replayed: true`) for a day. A key belongs to a person in an organization; with another request it is refused with `IDEMPOTENCY_CONFLICT`, and so is a repetition by a caller whose role is
  lower by then, because the answer may hold what only the former role may see. Each repetition counts as a call. While the first one still runs a repetition waits for it, five seconds at the most. What came to nothing is not kept: it is tried anew.
  After `leaveOrganization` and `deleteOrganization` a repetition gets `NOT_FOUND`: it was done. A mutation that asks Stripe keeps its key as soon as it has asked: while it runs, and for twice `REQUEST_TIMEOUT` if it broke off, a repetition gets
  `IDEMPOTENCY_CONFLICT` with `extensions.retryAfter`, and after that Stripe is asked anew.
- **From a replica**: where the service has one, a query with the header `Max-Staleness: SECONDS` may be answered by it: then everything that was committed longer ago than that is in the answer. `Served-By: replica` or `primary` tells who has answered; nobody
  gets an answer older than 60 seconds. Every answer to a mutation that has changed something then has a `Write-Position`: send the last one along with the same header, and the answer is not older than your own change either. After a mutation that was answered without
  one, over a WebSocket for example, or not at all, leave `Max-Staleness` away once. Without `Max-Staleness` every answer is the freshest.
- **Ids**: `X-Request-Id` comes back, and stands in the log and in errors of the server; send a UUID of your own to follow a request through your systems.

## Errors

`extensions.code` is one of these. Codes are never renamed; new ones may be added.

";

/// What a client should do about an error.
fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthenticated => "Get a new token, once; then ask the person to sign in.",
        ErrorCode::OrganizationMismatch => "Use a token for this organization, or one without.",
        ErrorCode::OrganizationSuspended => {
            "Show that the organization is suspended; lead owners to billing."
        }
        ErrorCode::UserSuspended => "Show the message; another token does not help.",
        ErrorCode::NotFound => "Show that it is gone; take it from lists.",
        ErrorCode::Forbidden => {
            "Hide it: `viewerPermissions` tells beforehand. Ask for them again, the role may have changed."
        }
        ErrorCode::OrganizationRequired => "Send the request to `/org/{slug}/graphql`.",
        ErrorCode::BadUserInput => "Show the message at `extensions.field`.",
        ErrorCode::Conflict => "Show the message; ask again for what is shown.",
        ErrorCode::PlanLimitExceeded => {
            "Offer a larger plan. With status 429: wait for `extensions.retryAfter` seconds."
        }
        ErrorCode::RateLimited => {
            "Wait for `extensions.retryAfter` seconds. Where the message names subscriptions: end some."
        }
        ErrorCode::IdempotencyConflict => {
            "With `extensions.retryAfter`: repeat it with the same key after so many seconds. Otherwise read the message: the request was done, or it is another one, which needs another key."
        }
        ErrorCode::GraphqlParseFailed | ErrorCode::GraphqlValidationFailed => {
            "Mend the document: check it against the schema when you build."
        }
        ErrorCode::QueryTooComplex => "Ask for less, or for smaller pages.",
        ErrorCode::PersistedQueryNotFound => {
            "Send the text once, with its hash; clients do so by themselves."
        }
        ErrorCode::UnsupportedRequest => "Mend the client: the message says what is wrong.",
        ErrorCode::Timeout => {
            "Try again after `extensions.retryAfter` seconds; nothing was written."
        }
        ErrorCode::Unavailable => {
            "Try again after `extensions.retryAfter` seconds. With `extensions.outcome` `UNKNOWN`: look first whether it was done."
        }
        ErrorCode::Internal => "Report it with `extensions.requestId`.",
    }
}

/// The text of `docs/api.md`.
///
/// # Panics
///
/// Never: the schema is one.
#[must_use]
pub fn api_docs() -> String {
    let mut text = INTRODUCTION.to_owned();
    // A schema that the server itself wrote is one.
    let schema = Schema::parse(sdl(), "schema.graphql").unwrap_or_else(|partial| partial.partial);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| code | meaning | what to do |\n| --- | --- | --- |");
    for item in ErrorCode::items() {
        let meaning = match schema.types.get("ErrorCode") {
            Some(ExtendedType::Enum(codes)) => codes
                .values
                .get(item.name)
                .and_then(|value| value.description.as_deref())
                .unwrap_or_default(),
            _ => "",
        };
        let _ = writeln!(text, "| `{}` | {} | {} |", item.name, line(meaning), advice(item.value));
    }
    for (title, name) in [
        ("Queries", "Query"),
        ("The organization", "Organization"),
        ("Mutations", "Mutation"),
        ("Subscriptions", "Subscription"),
    ] {
        let Some(ExtendedType::Object(object)) = schema.types.get(name) else {
            continue;
        };
        let _ = writeln!(text, "\n## {title}\n\n| field | answers | |\n| --- | --- | --- |");
        for field in object.fields.values() {
            let _ = writeln!(text, "{}", row(field));
        }
    }
    text
}

fn row(field: &Component<FieldDefinition>) -> String {
    let about = field.description.as_ref().map(|text| line(text)).unwrap_or_default();
    let permission = field.directives.get("requiresPermission").and_then(|directive| {
        let argument: Option<&Node<_>> =
            directive.arguments.first().map(|argument| &argument.value);
        argument.map(|value| format!(" Needs `{}`.", value.to_string().trim()))
    });
    let arguments: Vec<_> = field.arguments.iter().map(|argument| argument.name.as_str()).collect();
    let arguments =
        if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
    format!(
        "| `{}{arguments}` | `{}` | {about}{} |",
        field.name,
        field.ty,
        permission.unwrap_or_default()
    )
}

/// As one line of a table.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
