//! Sends the e-mails of the outbox after the commit that queued them, and retries each until it is
//! sent or given up.
//!
//! No transaction is open during the conversation with the mail server. A server that dies between
//! sending and recording it leaves an e-mail that is sent twice, with the same Message-ID.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};

use crate::{
    error::{Error, Result},
    invitation,
    mail::{Mail, Mailer},
    outbox::{self, Kind, Overdue},
    request::GraphqlService,
    tenancy::{Access, Reason, SystemSession, UnitOfWork as _, open_system},
};

/// How often the server polls the outbox.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many e-mails are read at once, and how many are sent at the same time.
const BATCH: i32 = 100;
const AT_ONCE: usize = 4;

/// How long sending may take, and how long a server leases an e-mail: longer than that.
const SEND_WAIT: Duration = Duration::from_secs(90);
const LEASE: chrono::Duration = chrono::Duration::minutes(3);

/// The delay after the first failure. It doubles with each failure, up to the longest.
const FIRST_WAIT: chrono::Duration = chrono::Duration::seconds(15);
const LONGEST_WAIT: chrono::Duration = chrono::Duration::hours(1);

/// About a day of attempts. After that the recipient no longer expects the e-mail.
const MOST_ATTEMPTS: i32 = 32;

/// Delivers e-mails until it is dropped.
pub async fn deliver(service: Arc<GraphqlService>, mailer: Mailer) {
    loop {
        match overdue(&service).await {
            Ok(emails) => {
                let (service, mailer) = (&service, &mailer);
                stream::iter(emails)
                    .for_each_concurrent(AT_ONCE, |email| async move {
                        if let Err(error) = send(service, mailer, email).await {
                            tracing::warn!(email = %email.id, %error, "an e-mail is delayed: the database did not answer");
                        }
                    })
                    .await;
            }
            Err(error) => tracing::warn!(%error, "the outbox could not be read"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn overdue(service: &GraphqlService) -> Result<Vec<Overdue>> {
    let session =
        open_system(&service.databases, &service.settings, None, Reason::Mail, Access::Read)
            .await?;
    let silent = service.databases.silent_databases();
    outbox::due(&session, Kind::InvitationMail, BATCH, silent).await
}

async fn send(service: &GraphqlService, mailer: &Mailer, email: Overdue) -> Result<()> {
    let session = open(service, email).await?;
    let Some(row) = outbox::claim(&session, email.id, LEASE).await? else {
        return Ok(());
    };
    let composed = match invitation::compose(&session, &row.payload).await {
        Ok(None) => {
            outbox::finish(&session, email.id, Some("the invitation is no longer valid")).await?;
            return session.commit().await;
        }
        Ok(Some(mail)) => Ok(mail),
        // SECRET_KEY no longer has the key of this link. An operator may restore it, so retry.
        Err(Error::Internal(cause)) if session.transaction().failure().is_none() => {
            Err(cause.to_string())
        }
        Err(error) => return Err(error),
    };
    session.commit().await?;
    let outcome = match composed {
        Ok(mail) => deliver_one(mailer, &mail, email).await,
        Err(cause) => Err(cause),
    };
    let session = open(service, email).await?;
    match outcome {
        Ok(()) => outbox::finish(&session, email.id, None).await?,
        Err(error) if row.attempts >= MOST_ATTEMPTS => {
            tracing::error!(email = %email.id, attempts = row.attempts, %error, "an e-mail was given up");
            outbox::finish(&session, email.id, Some(&error)).await?;
        }
        Err(error) => {
            tracing::warn!(email = %email.id, attempts = row.attempts, %error, "an e-mail is delayed: it could not be sent");
            let until = service.settings.clock.now() + wait(row.attempts);
            outbox::postpone(&session, email.id, until, &error).await?;
        }
    }
    session.commit().await
}

async fn deliver_one(mailer: &Mailer, mail: &Mail, email: Overdue) -> Result<(), String> {
    let id = email.id.to_string();
    let outcome = tokio::time::timeout(SEND_WAIT, mailer.send(mail, &id)).await;
    let outcome = outcome.map_err(|_| "the mail server was too slow".to_owned());
    outcome.and_then(|sent| sent.map_err(|error| error.to_string()))
}

async fn open(service: &GraphqlService, email: Overdue) -> Result<SystemSession> {
    let organization = Some(email.organization_id);
    open_system(&service.databases, &service.settings, organization, Reason::Mail, Access::Write)
        .await
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
