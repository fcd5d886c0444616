//! What `dev` and `serve` share: a server made from settings, and its end.

use std::{sync::Arc, time::Duration};

use super::Failure;
use crate::{
    clock::Clock,
    config::{HttpConfig, JwtConfig, RulesConfig},
    http::{Readiness, Server, TokenForPage},
    request::Engine,
    schema::Api,
    tenancy::Placement,
    usage::Meter,
};

/// A server from its settings.
pub(super) fn build(
    http: &HttpConfig,
    jwt: &JwtConfig,
    rules: &RulesConfig,
    placement: Placement,
    token_for_page: Option<TokenForPage>,
) -> Result<Arc<Server>, Failure> {
    let clock = Clock::system();
    let environment = rules.environment(clock.clone(), jwt).map_err(Failure::new)?;
    let engine = Engine {
        api: Api::new(http.limits()).map_err(Failure::new)?,
        meter: Meter::new(placement.clone(), environment.clone()),
        placement,
        environment,
        timeout: Duration::from_secs(http.request_timeout),
        introspection: http.introspection != crate::config::Introspection::Never,
    };
    Ok(Arc::new(Server {
        engine: Arc::new(engine),
        verifier: jwt.verifier(clock).map_err(Failure::new)?,
        introspection: http.introspection,
        trusted_proxies: http.trusted_proxies.clone(),
        max_body_bytes: http.max_body_bytes,
        max_batch: http.max_batch,
        token_for_page,
        readiness: Readiness::default(),
    }))
}

/// Resolves when somebody asks the process to end: Ctrl-C, or SIGTERM.
pub(super) async fn stop_signal() {
    use tokio::signal::{
        ctrl_c,
        unix::{SignalKind, signal},
    };
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = ctrl_c() => {}
        () = terminate => {}
    }
}
