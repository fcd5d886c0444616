//! Logs and traces. Logs go to standard error as text or JSON, filtered by `RUST_LOG`. With a
//! collector configured, each request becomes a span that is exported over OTLP (HTTP, binary). The
//! standard `OTEL_*` variables control sampling.

#[cfg_attr(not(feature = "otlp"), path = "no_traces.rs")]
mod traces;

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering},
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

use self::traces::Exporter;
use crate::config::{ConfigError, LogConfig, LogFormat};

/// Exports the remaining traces when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    _exporter: Option<Exporter>,
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
    let exporter = config.otel_exporter_otlp_endpoint.as_ref().map(Exporter::new).transpose()?;
    SENT.store(exporter.is_some(), Ordering::Relaxed);
    // Fails only if a subscriber is installed already.
    let _ = Registry::default()
        .with(lines(config.log_format).with_filter(filter))
        .with(exporter.as_ref().map(Exporter::layer))
        .try_init();
    Ok(Telemetry { _exporter: exporter })
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
