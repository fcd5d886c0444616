//! `tenantry schema`: prints the schema and the pages generated from code.

use std::{fs, path::PathBuf};

use super::{Failure, configuration_docs, print};
use crate::{
    api_docs::{api_docs, with_tables},
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

    /// Generate the tables in these pages again, such as docs/roles.md and docs/audit.md.
    #[arg(long, value_name = "PAGE", num_args = 1.., conflicts_with_all = ["docs", "configuration"])]
    tables: Vec<PathBuf>,

    /// Print the schema as a subgraph of Apollo Federation 2, for composition.
    #[arg(long, conflicts_with_all = ["docs", "configuration", "tables"])]
    federation: bool,
}

impl Schema {
    pub(super) fn run(&self) -> Result<(), Failure> {
        for path in &self.tables {
            let problem = |problem| Failure::new(format!("{}: {problem}", path.display()));
            let page = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
            let page = with_tables(&page).map_err(problem)?;
            fs::write(path, page).map_err(|error| problem(error.to_string()))?;
        }
        if !self.tables.is_empty() {
            return Ok(());
        }
        let text = match self {
            Self { docs: true, .. } => api_docs(),
            Self { configuration: true, .. } => configuration_docs(),
            Self { federation: true, .. } => subgraph_sdl(),
            Self { .. } => sdl(),
        };
        print(&text)
    }
}
