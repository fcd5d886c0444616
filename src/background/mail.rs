//! Sends the e-mails of the outbox after the commit that queued them, and retries each until it is
//! sent or given up.
//!
//! No transaction is open during the conversation with the mail server. A server that dies between
//! sending and recording it leaves an e-mail that is sent twice, with the same Message-ID.

use std::{sync::Arc, time::Duration};

use super::outbox_worker::{MOST_ATTEMPTS, OutboxWorker, wait};
use crate::{
    error::{Error, Result},
    invitation,
    mail::{Mail, Mailer, is_deliverable},
    outbox::{self, Kind, Overdue},
    request::GraphqlService,
    tenancy::{Reason, SystemSession, UnitOfWork as _},
};

/// How long sending may take, and how long a server leases an e-mail: longer than that.
const SEND_WAIT: Duration = Duration::from_secs(90);
const LEASE: chrono::Duration = chrono::Duration::minutes(3);

/// Delivers e-mails until it is dropped.
pub(super) async fn deliver(service: Arc<GraphqlService>, mailer: Mailer) {
    let (kind, reason) = (Kind::InvitationMail, Reason::Mail);
    let worker = OutboxWorker { service: &service, kind, reason };
    worker.run(|email| send(worker, &mailer, email)).await;
}

async fn send(worker: OutboxWorker<'_>, mailer: &Mailer, email: Overdue) -> Result<()> {
    let session = worker.open(email).await?;
    let Some(row) = outbox::claim(&session, email.id, LEASE).await? else {
        return Ok(());
    };
    let composed = match invitation::compose(&session, &row.payload).await {
        Ok(None) => return give_up(session, email, "the invitation is no longer valid").await,
        Ok(Some(mail)) if !is_deliverable(&mail.to) => {
            return give_up(session, email, "no e-mail can be sent to this address").await;
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
    let session = worker.open(email).await?;
    match outcome {
        Ok(()) => outbox::finish(&session, email.id, None).await?,
        // After that the recipient no longer expects the e-mail.
        Err(error) if row.attempts >= MOST_ATTEMPTS => {
            tracing::error!(email = %email.id, attempts = row.attempts, %error, "an e-mail was given up");
            outbox::finish(&session, email.id, Some(&error)).await?;
        }
        Err(error) => {
            tracing::warn!(email = %email.id, attempts = row.attempts, %error, "an e-mail is delayed: it could not be sent");
            let until = session.now() + wait(row.attempts);
            outbox::postpone(&session, email.id, until, &error).await?;
        }
    }
    session.commit().await
}

async fn give_up(session: SystemSession, email: Overdue, reason: &str) -> Result<()> {
    outbox::finish(&session, email.id, Some(reason)).await?;
    session.commit().await
}

async fn deliver_one(mailer: &Mailer, mail: &Mail, email: Overdue) -> Result<(), String> {
    let id = email.id.to_string();
    let outcome = tokio::time::timeout(SEND_WAIT, mailer.send(mail, &id)).await;
    let outcome = outcome.map_err(|_| "the mail server was too slow".to_owned());
    outcome.and_then(|sent| sent.map_err(|error| error.to_string()))
}
