//! The mail of the outbox: sent after the commit that asked for it, and tried again until it is
//! sent or good for nothing.
//!
//! No transaction is open while the mail server is spoken with. A server that dies between sending
//! and saying so leaves a letter to be sent twice, under the same Message-ID.

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

/// How often the outbox is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Letters that are looked for at once, and sent at the same time.
const BATCH: i32 = 100;
const AT_ONCE: usize = 4;

/// How long sending may take, and how long a server keeps a letter to itself: longer.
const SEND_WAIT: Duration = Duration::from_secs(90);
const LEASE: chrono::Duration = chrono::Duration::minutes(3);

/// The wait after the first failure; it doubles with each, up to the longest.
const FIRST_WAIT: chrono::Duration = chrono::Duration::seconds(15);
const LONGEST_WAIT: chrono::Duration = chrono::Duration::hours(1);

/// Then nobody will read it any more: about a day.
const MOST_ATTEMPTS: i32 = 32;

/// Delivers letters for ever; dropping it stops.
pub async fn deliver(service: Arc<GraphqlService>, mailer: Mailer) {
    loop {
        match overdue(&service).await {
            Ok(letters) => {
                let (service, mailer) = (&service, &mailer);
                stream::iter(letters)
                    .for_each_concurrent(AT_ONCE, |letter| async move {
                        if let Err(error) = send(service, mailer, letter).await {
                            tracing::warn!(letter = %letter.id, %error, "a letter waits: the database was not there");
                        }
                    })
                    .await;
            }
            Err(error) => tracing::warn!(%error, "the outbox cannot be read"),
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

async fn send(service: &GraphqlService, mailer: &Mailer, letter: Overdue) -> Result<()> {
    let session = open(service, letter).await?;
    let Some(row) = outbox::claim(&session, letter.id, LEASE).await? else {
        return Ok(());
    };
    let composed = match invitation::compose(&session, &row.payload).await {
        Ok(None) => {
            outbox::finish(&session, letter.id, Some("the invitation is good no more")).await?;
            return session.commit().await;
        }
        Ok(Some(mail)) => Ok(mail),
        // No key makes its link: an operator may bring one back.
        Err(Error::Internal(cause)) if session.transaction().failure().is_none() => {
            Err(cause.to_string())
        }
        Err(error) => return Err(error),
    };
    session.commit().await?;
    let outcome = match composed {
        Ok(mail) => deliver_one(mailer, &mail, letter).await,
        Err(cause) => Err(cause),
    };
    let session = open(service, letter).await?;
    match outcome {
        Ok(()) => outbox::finish(&session, letter.id, None).await?,
        Err(error) if row.attempts >= MOST_ATTEMPTS => {
            tracing::error!(letter = %letter.id, attempts = row.attempts, %error, "a letter is given up");
            outbox::finish(&session, letter.id, Some(&error)).await?;
        }
        Err(error) => {
            tracing::warn!(letter = %letter.id, attempts = row.attempts, %error, "a letter waits: it could not be sent");
            let until = service.settings.clock.now() + wait(row.attempts);
            outbox::postpone(&session, letter.id, until, &error).await?;
        }
    }
    session.commit().await
}

async fn deliver_one(mailer: &Mailer, mail: &Mail, letter: Overdue) -> Result<(), String> {
    let id = letter.id.to_string();
    let outcome = tokio::time::timeout(SEND_WAIT, mailer.send(mail, &id)).await;
    let outcome = outcome.map_err(|_| "the mail server was too slow".to_owned());
    outcome.and_then(|sent| sent.map_err(|error| error.to_string()))
}

async fn open(service: &GraphqlService, letter: Overdue) -> Result<SystemSession> {
    let organization = Some(letter.organization_id);
    open_system(&service.databases, &service.settings, organization, Reason::Mail, Access::Write)
        .await
}

/// After so many attempts.
fn wait(attempts: i32) -> chrono::Duration {
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
