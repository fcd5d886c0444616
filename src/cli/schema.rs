//! `tenantry schema`

use std::io::Write;

use super::Failure;
use crate::{api_docs::api_docs, schema::sdl};

/// Print the GraphQL schema.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {
    /// Print docs/api.md instead: errors and root fields, for people.
    #[arg(long)]
    docs: bool,
}

impl Schema {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let text = if self.docs { api_docs() } else { sdl() };
        // Not print!, which panics when the reader has gone.
        std::io::stdout().write_all(text.as_bytes()).map_err(Failure::new)
    }
}
