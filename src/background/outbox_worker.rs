//! A worker of the outbox: claims due rows of one kind, and retries each until its work is done or
//! given up.

use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::{
    error::Result,
    outbox::{self, Kind, Overdue},
    request::GraphqlService,
    tenancy::{Access, Reason, SystemSession, open_system},
};

/// How often the server polls the outbox.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many rows are read at once, and how many are worked on at the same time.
const BATCH: i32 = 100;
const AT_ONCE: usize = 4;

/// The delay after the first failure. It doubles with each failure, up to the longest.
const FIRST_WAIT: chrono::Duration = chrono::Duration::seconds(15);
const LONGEST_WAIT: chrono::Duration = chrono::Duration::hours(1);

/// About a day of attempts.
pub(super) const MOST_ATTEMPTS: i32 = 32;

/// Works on the rows of one kind, in sessions with one reason.
#[derive(Clone, Copy)]
pub(super) struct OutboxWorker<'service> {
    pub(super) service: &'service GraphqlService,
    pub(super) kind: Kind,
    pub(super) reason: Reason,
}

impl OutboxWorker<'_> {
    /// Works until it is dropped.
    pub(super) async fn run<F: Future<Output = Result<()>>>(self, work: impl Fn(Overdue) -> F) {
        let (work, kind) = (&work, self.kind.name());
        loop {
            match self.overdue().await {
                Ok(rows) => {
                    stream::iter(rows)
                        .for_each_concurrent(AT_ONCE, |row| async move {
                            if let Err(error) = work(row).await {
                                tracing::warn!(kind, row = %row.id, %error, "work of the outbox is delayed");
                            }
                        })
                        .await;
                }
                Err(error) => tracing::warn!(kind, %error, "the outbox could not be read"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn overdue(self) -> Result<Vec<Overdue>> {
        let Self { service, kind, reason } = self;
        let (databases, settings) = (&service.databases, &service.settings);
        let session = open_system(databases, settings, None, reason, Access::Read).await?;
        outbox::due(&session, kind, BATCH, databases.silent_databases()).await
    }

    /// Opens a session in the organization of a row.
    pub(super) async fn open(self, row: Overdue) -> Result<SystemSession> {
        let Self { service, reason, .. } = self;
        let organization = Some(row.organization_id);
        let (databases, settings) = (&service.databases, &service.settings);
        open_system(databases, settings, organization, reason, Access::Write).await
    }
}

/// The delay after this many attempts.
pub(super) fn wait(attempts: i32) -> chrono::Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(16);
    (FIRST_WAIT * 2_i32.pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_last_a_day() {
        assert_eq!(wait(1), FIRST_WAIT);
        assert_eq!(wait(2), FIRST_WAIT * 2);
        assert_eq!(wait(9), LONGEST_WAIT);
        let all =
            (1..MOST_ATTEMPTS).map(wait).fold(chrono::Duration::zero(), |sum, wait| sum + wait);
        assert!((20..30).contains(&all.num_hours()), "{all}");
    }
}
