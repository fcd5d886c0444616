//! The log: to standard error, as text or JSON, filtered by `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Starts logging; later calls change nothing.
///
/// # Errors
///
/// When `RUST_LOG` is not a filter.
pub fn start(config: &LogConfig, default_filter: &str) -> Result<(), ConfigError> {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { default_filter } else { &wanted };
    let filter = EnvFilter::try_new(wanted)
        .map_err(|error| ConfigError(format!("RUST_LOG is not a filter: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Fails only when something else has started logging before.
    let _ = match config.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}
