//! Logs and traces. Logs go to standard error as text or JSON, filtered by `RUST_LOG`. With a
//! collector configured, each request becomes a span that is exported over OTLP (HTTP, binary). The
//! standard `OTEL_*` variables control sampling.

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::{ConfigError, LogConfig, LogFormat};

/// The service name in traces, unless `OTEL_SERVICE_NAME` is set.
const SERVICE: &str = "tenantry";

/// Exports the remaining traces when it is dropped.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "could not send the last traces to the collector");
        }
    }
}

/// Whether a trace collector is configured.
static SENT: AtomicBool = AtomicBool::new(false);

/// Whether traces are exported. If not, callers can skip describing requests that succeed.
pub fn traces_are_sent() -> bool {
    SENT.load(Ordering::Relaxed)
}

/// Starts logging and tracing; later calls change nothing. Call it outside any async runtime: the
/// exporter runs on its own thread.
///
/// # Errors
///
/// When `RUST_LOG` is not a valid filter, or the collector's address is not valid.
pub fn start(config: &LogConfig, default_filter: &str) -> Result<Telemetry, ConfigError> {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { default_filter } else { &wanted };
    let filter = EnvFilter::try_new(wanted)
        .map_err(|error| ConfigError(format!("RUST_LOG is not a valid filter: {error}")))?;
    let provider = config.otel_exporter_otlp_endpoint.as_ref().map(provider).transpose()?;
    // Traces cover every request, independently of the log filter.
    let requests = Targets::new().with_target(SERVICE, LevelFilter::INFO);
    let traces = provider.as_ref().map(|provider| {
        let tracer = provider.tracer(SERVICE);
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(requests)
    });
    SENT.store(provider.is_some(), Ordering::Relaxed);
    // Fails only if a subscriber is installed already.
    let _ = Registry::default()
        .with(lines(config.log_format).with_filter(filter))
        .with(traces)
        .try_init();
    Ok(Telemetry(provider))
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
}

fn provider(endpoint: &url::Url) -> Result<SdkTracerProvider, ConfigError> {
    let endpoint = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| ConfigError(format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}")))?;
    // An explicit name would override the one from the environment.
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(SERVICE);
    }
    Ok(SdkTracerProvider::builder()
        .with_resource(resource.build())
        .with_batch_exporter(exporter)
        .build())
}
