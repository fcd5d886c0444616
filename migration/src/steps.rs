//! All steps, and how the steps that a database has compare with them.

use std::sync::LazyLock;

use crate::{
    app, m0001_baseline,
    step::{Step, for_schemas, version},
};

/// The steps of tenantry, oldest first.
const CORE: &[Step] = &[m0001_baseline::STEP];

/// All steps. Those of one source are in the order of their names.
pub static STEPS: LazyLock<Vec<Step>> = LazyLock::new(|| [CORE, app::STEPS].concat());

/// The version that a server requires in every dedicated schema that it uses.
pub static SCHEMA_VERSION: LazyLock<String> = LazyLock::new(|| version(&for_schemas(&*STEPS)));

/// How the steps of a database compare with those of this program.
#[derive(Debug, PartialEq, Eq)]
pub enum Status {
    /// Both are the same.
    Current,
    /// The database lacks this many steps.
    Behind(usize),
    /// The database has this many steps that this program does not know: a newer tenantry migrated
    /// it.
    Ahead(usize),
    /// The database has steps, but not the first one of this program: see
    /// [`INCOMPATIBLE`].
    Incompatible,
}

impl Status {
    /// What is wrong and what to do; `None` if the steps are the same.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        Some(match self {
            Self::Current => return None,
            Self::Behind(1) => "the database lacks 1 migration. Run `tenantry migrate`.".to_owned(),
            Self::Behind(count) => {
                format!("the database lacks {count} migrations. Run `tenantry migrate`.")
            }
            Self::Ahead(_) => "the database was migrated by a newer version of tenantry. Use that \
                               version."
                .to_owned(),
            Self::Incompatible => INCOMPATIBLE.to_owned(),
        })
    }
}

/// What is wrong with a database whose steps are not these, and what to do.
pub const INCOMPATIBLE: &str = "a development version of tenantry created this database, and it \
    cannot be migrated: create an empty database and run tenantry migrate there";

/// Compares the names of the steps that a database has with those of this program.
#[must_use]
pub fn status(applied: &[String]) -> Status {
    compare(applied, &STEPS)
}

pub(crate) fn compare(applied: &[String], steps: &[Step]) -> Status {
    if !applied.is_empty() && applied.iter().all(|name| name != STEPS[0].name) {
        return Status::Incompatible;
    }
    let ahead = applied.iter().filter(|name| steps.iter().all(|step| step.name != **name)).count();
    let behind = steps.iter().filter(|step| applied.iter().all(|name| name != step.name)).count();
    match (ahead, behind) {
        (0, 0) => Status::Current,
        (0, behind) => Status::Behind(behind),
        (ahead, _) => Status::Ahead(ahead),
    }
}
