//! `/webhooks/stripe` receives Stripe's events. Stripe retries an event for three days until the
//! response has a 2xx status.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use stripe::{Event, verify};

use super::{Server, request_body::read, unsupported::Unsupported};
use crate::{
    billing::{self, Outcome},
    error::{Error, Result},
    request::GraphqlService,
    tenancy::Reason,
};

/// Responds with one line, which Stripe's dashboard shows.
pub(super) async fn receive(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let service = &server.service;
    let Ok(billing::Settings { stripe: Some(stripe), .. }) = service.settings.area() else {
        return (StatusCode::NOT_FOUND, "this service does not use Stripe\n").into_response();
    };
    let body = match read(&headers, body, server.max_body_bytes).await {
        Ok(body) => body,
        Err(Unsupported(status, problem)) => return refused(service, status, &problem),
    };
    // The signature covers the raw body, so it is verified before parsing.
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok());
    let now = service.settings.clock.now();
    if let Err(error) = verify(signature.unwrap_or_default(), &body, stripe.webhook_secrets(), now)
    {
        return refused(service, StatusCode::BAD_REQUEST, &error.to_string());
    }
    let event = match Event::from_body(&body) {
        Ok(event) => event,
        Err(problem) => return refused(service, StatusCode::BAD_REQUEST, &problem),
    };
    match store_and_apply(&server, &event).await {
        Ok(Outcome::Applied(organization)) => {
            service.metrics.webhook("applied");
            tracing::info!(event = event.id, kind = event.kind, %organization, "a Stripe event was applied");
            (StatusCode::OK, "applied\n".to_owned()).into_response()
        }
        Ok(Outcome::Nothing(why)) => {
            service.metrics.webhook("ignored");
            (StatusCode::OK, format!("nothing to do: {why}\n")).into_response()
        }
        Ok(Outcome::Problem(problem)) => {
            service.metrics.webhook("problem");
            tracing::error!(
                event = event.id,
                kind = event.kind,
                problem,
                "a Stripe event needs an operator"
            );
            (StatusCode::OK, format!("needs an operator: {problem}\n")).into_response()
        }
        Err(error) => {
            service.metrics.webhook("failed");
            tracing::error!(
                event = event.id,
                kind = event.kind,
                cause = error.cause(),
                "a Stripe event was not applied"
            );
            let status = match error {
                Error::Unavailable(_)
                | Error::Contention(_)
                | Error::ReadOnly(_)
                | Error::Timeout => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, format!("not applied: {error}\n")).into_response()
        }
    }
}

async fn store_and_apply(server: &Server, event: &Event) -> Result<Outcome> {
    let (databases, settings) = (&server.service.databases, &server.service.settings);
    if billing::receive(databases, settings, event).await? {
        return Ok(Outcome::Nothing("it was already applied"));
    }
    billing::apply(databases, settings, &event.id, Reason::Stripe).await
}

fn refused(service: &GraphqlService, status: StatusCode, problem: &str) -> Response {
    service.metrics.webhook("refused");
    tracing::warn!(problem, "a webhook was refused");
    (status, format!("{problem}\n")).into_response()
}
