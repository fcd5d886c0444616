//! What must be done now and again: the partitions of the audit log are made ahead of time, because
//! an entry without its partition would lie where no month finds it; what was processed long ago is
//! forgotten.

use std::{sync::Arc, time::Duration};

use crate::{
    audit,
    error::Result,
    outbox,
    request::GraphqlService,
    tenancy::{Access, Reason, SystemSession, in_every_database},
};

/// Partitions are three months ahead, so it does not matter when in a day.
const INTERVAL: Duration = Duration::from_hours(6);

/// Looks now and again for ever; dropping it stops.
pub(super) async fn maintain(service: Arc<GraphqlService>) {
    loop {
        let (databases, settings) = (&service.databases, &service.settings);
        let done =
            in_every_database(databases, settings, Reason::Maintenance, Access::Write, ensure);
        for done in done.await {
            match done {
                Ok((0, 0)) => {}
                Ok((partitions, forgotten)) => tracing::info!(partitions, forgotten, "maintained"),
                Err(error) => {
                    tracing::error!(%error, cause = error.cause(), "maintenance failed");
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// How many partitions were made, and rows forgotten.
async fn ensure(session: SystemSession) -> Result<(usize, i64)> {
    let partitions = audit::ensure_partitions(&session).await?;
    let forgotten = outbox::forget_processed(&session).await?;
    session.commit().await?;
    Ok((partitions, forgotten))
}
