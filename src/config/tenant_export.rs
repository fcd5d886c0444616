//! Settings of exports: the secret that signs the exports of this installation.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

use clap::Args;

use super::{ConfigError, secret_rotation::secrets};
use crate::tenancy::SecretKeys;

/// Exports.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Exports")]
pub struct ExportConfig {
    /// The secret that signs exports, at least 32 bytes. SECRET_KEY when not set. Of several
    /// secrets, separated by commas, the first signs, and imports accept all of them.
    #[arg(long, env, hide_env_values = true)]
    pub export_key: Option<String>,

    /// The secret of the servers, which signs exports when EXPORT_KEY is not set.
    #[arg(long, env, hide_env_values = true)]
    pub secret_key: Option<String>,
}

impl ExportConfig {
    /// Returns the secrets. The first one signs.
    pub fn keys(&self) -> Result<SecretKeys, ConfigError> {
        let named = [("EXPORT_KEY", &self.export_key), ("SECRET_KEY", &self.secret_key)];
        let set = named.into_iter().find_map(|(name, keys)| Some((name, keys.as_deref()?)));
        let Some((name, keys)) = set else {
            return Err(ConfigError::new(
                "neither EXPORT_KEY nor SECRET_KEY is set. Set the one that signs your exports, or pass \
                 --unsigned.",
            ));
        };
        let keys = secrets(name, keys)?;
        Ok(SecretKeys::new(keys.into_iter().map(|key| key.as_bytes().to_vec()).collect()))
    }
}
