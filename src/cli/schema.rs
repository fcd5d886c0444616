//! `tenantry schema`: prints the schema and the pages generated from code.

use super::{Failure, configuration_docs, print};
use crate::{
    api_docs::api_docs,
    schema::{sdl, subgraph_sdl},
};

/// Print the GraphQL schema, or the pages that are generated from the code.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {
    /// Print docs/api.md instead: errors and root fields.
    #[arg(long)]
    docs: bool,

    /// Print docs/configuration.md instead: every setting.
    #[arg(long, conflicts_with = "docs")]
    configuration: bool,

    /// Print the schema as a subgraph of Apollo Federation 2, for composition.
    #[arg(long, conflicts_with_all = ["docs", "configuration"])]
    federation: bool,
}

impl Schema {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let text = match self {
            Self { docs: true, .. } => api_docs(),
            Self { configuration: true, .. } => configuration_docs(),
            Self { federation: true, .. } => subgraph_sdl(),
            Self { .. } => sdl(),
        };
        print(&text)
    }
}
