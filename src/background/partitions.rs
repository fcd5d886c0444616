//! The partitions of the audit log, made ahead of time: an entry without its partition would be refused, and with it the change.

use std::{sync::Arc, time::Duration};

use crate::{
    audit,
    error::Result,
    request::Engine,
    tenancy::{Access, Reason, open_system},
};

/// Partitions are three months ahead, so it does not matter when in a day.
const INTERVAL: Duration = Duration::from_hours(6);

/// Looks now and again for ever; dropping it stops. Where the log is a plain table there is nothing to do.
pub(super) async fn keep_ahead(engine: Arc<Engine>) {
    loop {
        match ensure(&engine).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "partitions of the audit log were made"),
            Err(error) => tracing::error!(%error, "partitions of the audit log are missing"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn ensure(engine: &Engine) -> Result<usize> {
    let (placement, environment) = (&engine.placement, &engine.environment);
    let session =
        open_system(placement, environment, None, Reason::Maintenance, Access::Write).await?;
    let count = audit::ensure_partitions(&session).await?;
    session.commit().await?;
    Ok(count)
}
