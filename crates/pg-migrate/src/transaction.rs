//! The end of a transaction.

use pg::ClientTransaction;

/// Commits the transaction if the work in it has succeeded, and rolls it back otherwise.
///
/// # Errors
///
/// As the work, and when the commit fails.
pub async fn finish<T, E: From<pg::Error>>(
    transaction: ClientTransaction<'_>,
    outcome: Result<T, E>,
) -> Result<T, E> {
    if outcome.is_ok() {
        transaction.commit().await?;
    } else {
        // A connection that cannot roll back is lost, and its transaction with it.
        let _ = transaction.roll_back().await;
    }
    outcome
}
