//! Settings of the log and of traces.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use clap::{Args, ValueEnum};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The log.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log and traces")]
pub struct LogConfig {
    /// The format of log lines. RUST_LOG selects what is logged, for example info,tenantry=debug
    #[arg(long, env, default_value = "text")]
    pub log_format: LogFormat,

    /// The OpenTelemetry collector that receives a trace of each request, for example
    /// http://127.0.0.1:4318. Requires a program built with the feature otlp.
    #[arg(long, env)]
    pub otel_exporter_otlp_endpoint: Option<url::Url>,
}
