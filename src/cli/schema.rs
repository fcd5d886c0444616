//! `tenantry schema`

use std::io::Write;

use super::Failure;
use crate::schema::sdl;

/// Print the GraphQL schema.
#[derive(Debug, clap::Args)]
pub(super) struct Schema;

impl Schema {
    pub(super) fn run() -> Result<(), Failure> {
        // Not print!, which panics when the reader has gone.
        std::io::stdout().write_all(sdl().as_bytes()).map_err(Failure::new)
    }
}
