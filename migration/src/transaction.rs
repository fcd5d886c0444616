//! Transactions that are repeated when other sessions are in the way.

use std::time::Duration;

use pg::Client;

/// Works in a transaction. One that fails for a reason that `may_pass` is repeated up to `tries`
/// times, after pauses that grow by `pause`.
pub(crate) async fn repeated<T, E: From<pg::Error>>(
    connection: &mut Client,
    (tries, pause): (u32, Duration),
    may_pass: fn(&E) -> bool,
    work: impl AsyncFn(&Client) -> Result<T, E>,
) -> Result<T, E> {
    let mut attempt = 1;
    loop {
        let transaction = connection.begin().await?;
        let outcome = match work(&transaction).await {
            Ok(done) => transaction.commit().await.map(|()| done).map_err(E::from),
            Err(error) => {
                // A connection that cannot roll back is lost, and its transaction with it.
                let _ = transaction.roll_back().await;
                Err(error)
            }
        };
        match outcome {
            Err(error) if attempt < tries && may_pass(&error) => {
                tokio::time::sleep(pause * attempt).await;
            }
            outcome => return outcome,
        }
        attempt += 1;
    }
}
