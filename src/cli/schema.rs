//! `tenantry schema`: prints the schema and the pages generated from code.

use std::io::Write;

use super::{Failure, configuration_docs};
use crate::{api_docs::api_docs, schema::sdl};

/// Print the GraphQL schema.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {
    /// Print docs/api.md instead: errors and root fields.
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
        // `print!` would panic on a closed pipe.
        std::io::stdout().write_all(text.as_bytes()).map_err(Failure::new)
    }
}
