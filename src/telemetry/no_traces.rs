//! Replaces `traces.rs` in a build without the feature `otlp`: refuses every collector.

use tracing::Subscriber;
use tracing_subscriber::{Layer, layer::Identity};

use crate::config::ConfigError;

#[derive(Debug)]
pub(super) enum Exporter {}

impl Exporter {
    pub(super) fn new(_: &url::Url) -> Result<Self, ConfigError> {
        let problem = "OTEL_EXPORTER_OTLP_ENDPOINT is set, but this program was built without \
                       traces. Build it with --features otlp.";
        Err(ConfigError(problem.to_owned()))
    }

    #[expect(clippy::unused_self, reason = "the signature of traces.rs")]
    pub(super) fn layer<S: Subscriber>(&self) -> impl Layer<S> + use<S> {
        Identity::new()
    }
}
