//! The failure of a command in some of the dedicated databases.

use crate::cli::Failure;

/// Fails if the command did not succeed in some dedicated databases.
pub(super) fn complete(failed: &[String]) -> Result<(), Failure> {
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the command failed in the databases {}. Fix the error above and run it again.",
        failed.join(", ")
    )))
}
