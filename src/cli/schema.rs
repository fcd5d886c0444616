//! `tenantry schema`

use std::io::Write;

use super::{Failure, configuration_docs};
use crate::{api_docs::api_docs, schema::sdl};

/// Print the GraphQL schema.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {
    /// Print docs/api.md instead: errors and root fields, for people.
    #[arg(long)]
    docs: bool,

    /// Print docs/configuration.md instead: every setting.
    #[arg(long, conflicts_with = "docs")]
    configuration: bool,
}

impl Schema {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let text = match self {
            Self { docs: true, .. } => api_docs(),
            Self { configuration: true, .. } => configuration_docs(),
            Self { .. } => sdl(),
        };
        // Not print!, which panics when the reader has gone.
        std::io::stdout().write_all(text.as_bytes()).map_err(Failure::new)
    }
}
