//! Periodic maintenance of every database: creates the partitions of the audit log and deletes
//! processed rows of the outbox.
//!
//! Partitions are created ahead of time, because an entry without the partition of its month would
//! go to the default partition.

use std::{sync::Arc, time::Duration};

use crate::{
    audit,
    error::Result,
    outbox,
    request::GraphqlService,
    tenancy::{Access, Reason, SystemSession, in_every_database},
};

/// Partitions are created three months ahead, so the time of day does not matter.
const INTERVAL: Duration = Duration::from_hours(6);

/// Runs until it is dropped.
pub(super) async fn maintain(service: Arc<GraphqlService>) {
    loop {
        let (databases, settings) = (&service.databases, &service.settings);
        let done =
            in_every_database(databases, settings, Reason::Maintenance, Access::Write, ensure);
        for done in done.await {
            match done {
                Ok((0, 0)) => {}
                Ok((partitions, deleted)) => {
                    tracing::info!(partitions, deleted, "maintenance done");
                }
                Err(error) => {
                    tracing::error!(%error, cause = error.cause(), "maintenance failed");
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Returns how many partitions were created and how many rows were deleted.
async fn ensure(session: SystemSession) -> Result<(usize, i64)> {
    let partitions = audit::ensure_partitions(&session).await?;
    let deleted = outbox::forget_processed(&session).await?;
    session.commit().await?;
    Ok((partitions, deleted))
}
