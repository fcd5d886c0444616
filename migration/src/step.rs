//! Steps: what one is, and how the steps that a database has compare with those of this program.

use crate::STEPS;

/// A change of the database, applied in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The name of its file, which databases record.
    pub name: &'static str,
    /// The SQL for the shared tables.
    pub shared: fn() -> String,
    /// The SQL for a dedicated schema, if the step changes tables of organizations.
    pub schema: Option<fn(schema: &str) -> String>,
}

/// The steps by which the version of a dedicated schema is known: the first one, and those that
/// change schemas.
pub(crate) fn schema_versions(steps: &[Step]) -> Vec<Step> {
    let is_version = |(at, step): &(usize, &Step)| *at == 0 || step.schema.is_some();
    steps.iter().enumerate().filter(is_version).map(|(_, step)| *step).collect()
}

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
    /// The database has steps, but not the first one: see [`INCOMPATIBLE`].
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
    if !applied.is_empty() && applied.iter().all(|name| name != STEPS[0].name) {
        return Status::Incompatible;
    }
    let ahead = applied.iter().filter(|name| STEPS.iter().all(|step| step.name != **name)).count();
    let behind = STEPS.iter().filter(|step| applied.iter().all(|name| name != step.name)).count();
    match (ahead, behind) {
        (0, 0) => Status::Current,
        (0, behind) => Status::Behind(behind),
        (ahead, _) => Status::Ahead(ahead),
    }
}
