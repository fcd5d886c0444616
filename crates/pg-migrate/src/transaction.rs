//! Transactions that are repeated after a conflict with others.

use std::time::Duration;

use pg::Client;

/// Commits what `work` does in a transaction. Tries again, `tries` times in total and after a
/// longer `pause` each time, while the failure `is_transient`.
///
/// # Errors
///
/// As `work`, and when the commit fails.
pub async fn in_transaction<T, E: From<pg::Error>>(
    connection: &mut Client,
    tries: u32,
    pause: Duration,
    is_transient: impl Fn(&E) -> bool,
    work: impl AsyncFn(&Client) -> Result<T, E>,
) -> Result<T, E> {
    let mut attempt = 1;
    loop {
        let transaction = connection.begin().await?;
        let outcome = match work(&transaction).await {
            Ok(value) => transaction.commit().await.map(|()| value).map_err(E::from),
            Err(error) => {
                // A connection that cannot roll back is lost, and its transaction with it.
                let _ = transaction.roll_back().await;
                Err(error)
            }
        };
        match outcome {
            Err(error) if attempt < tries && is_transient(&error) => {
                tokio::time::sleep(pause * attempt).await;
            }
            outcome => return outcome,
        }
        attempt += 1;
    }
}
