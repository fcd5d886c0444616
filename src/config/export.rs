//! The secret that tells exports of this installation from other files.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use clap::Args;

use super::{ConfigError, MIN_SECRET_BYTES};
use crate::tenancy::SecretKeys;

/// Exports.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Exports")]
pub struct ExportConfig {
    /// The secret that signs exports, at least 32 bytes; SECRET_KEY when not set. Of several, separated by commas, the first
    /// signs, and imports accept any.
    #[arg(
        long,
        env = "EXPORT_KEY",
        value_name = "EXPORT_KEY",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub export_key: Vec<String>,

    /// The secret of the servers.
    #[arg(
        long,
        env = "SECRET_KEY",
        value_name = "SECRET_KEY",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub secret_key: Vec<String>,
}

impl ExportConfig {
    /// The secrets, the one that signs first.
    ///
    /// # Errors
    ///
    /// When none is set, or one is too short.
    pub fn keys(&self) -> Result<SecretKeys, ConfigError> {
        let present = |keys: &[String]| -> Vec<String> {
            let keys = keys.iter().map(|key| key.trim().to_owned());
            keys.filter(|key| !key.is_empty()).collect()
        };
        let (name, keys) = match present(&self.export_key) {
            keys if keys.is_empty() => ("SECRET_KEY", present(&self.secret_key)),
            keys => ("EXPORT_KEY", keys),
        };
        if keys.is_empty() {
            return Err(ConfigError(
                "neither EXPORT_KEY nor SECRET_KEY is set: exports are signed with it. \
                 --unsigned goes without"
                    .to_owned(),
            ));
        }
        if let Some(short) = keys.iter().find(|key| key.len() < MIN_SECRET_BYTES) {
            return Err(ConfigError(format!(
                "{name} has {} bytes: it must have at least {MIN_SECRET_BYTES}",
                short.len()
            )));
        }
        Ok(SecretKeys(keys.into_iter().map(String::into_bytes).collect()))
    }
}
