//! The log: to standard error, as text or JSON, filtered by `RUST_LOG`. And traces, for whoever has
//! named a collector: a span for each request, over OTLP (HTTP, binary), with the sampling that the
//! standard variables `OTEL_*` ask for.

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

/// What the process calls itself, unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE: &str = "tenantry";

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Whether there is a collector of traces.
static SENT: AtomicBool = AtomicBool::new(false);

/// Whether traces are sent: otherwise nobody reads what is known of a request that went well.
pub fn traces_are_sent() -> bool {
    SENT.load(Ordering::Relaxed)
}

/// Starts logging; later calls change nothing. Not to be called where a runtime runs: the exporter
/// has a thread of its own.
///
/// # Errors
///
/// When `RUST_LOG` is not a filter, or the collector's address is none.
pub fn start(config: &LogConfig, default_filter: &str) -> Result<Telemetry, ConfigError> {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { default_filter } else { &wanted };
    let filter = EnvFilter::try_new(wanted)
        .map_err(|error| ConfigError(format!("RUST_LOG is not a filter: {error}")))?;
    let provider = config.otel_exporter_otlp_endpoint.as_ref().map(provider).transpose()?;
    // Whatever the log is to show, traces are of every request.
    let requests = Targets::new().with_target(SERVICE, LevelFilter::INFO);
    let traces = provider.as_ref().map(|provider| {
        let tracer = provider.tracer(SERVICE);
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(requests)
    });
    SENT.store(provider.is_some(), Ordering::Relaxed);
    // Fails only when something else has started logging before.
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
    // The name in the environment comes after ours.
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(SERVICE);
    }
    Ok(SdkTracerProvider::builder()
        .with_resource(resource.build())
        .with_batch_exporter(exporter)
        .build())
}
