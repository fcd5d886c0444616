//! Periodic work of a server besides requests. It stops after the last request and returns the
//! calls that it leased from the usage meter.

mod mail;
mod maintenance;
mod outbox_worker;
mod seats;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{billing, mail::Mailer, request::GraphqlService};

/// How long a stopping server waits for the last publications and for its usage meter.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// The running background tasks. Dropping it stops them.
#[derive(Debug)]
pub struct Background {
    service: Arc<GraphqlService>,
    tasks: JoinSet<()>,
    publisher: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Background {
    /// Starts the usage meter, maintenance, directory sync and the change feed, sends e-mails if
    /// a mailer is configured, and follows the size of teams if Stripe manages subscriptions.
    #[must_use]
    pub fn start(service: Arc<GraphqlService>, mailer: Option<Mailer>) -> Self {
        let mut tasks = JoinSet::new();
        let stop = watch::Sender::new(false);
        let (meter, stopped) = (service.meter.clone(), stop.subscribe());
        tasks.spawn(async move { meter.keep(stopped).await });
        tasks.spawn(maintenance::maintain(Arc::clone(&service)));
        let databases = service.databases.clone();
        tasks.spawn(async move { databases.follow_primary().await });
        let databases = service.databases.clone();
        tasks.spawn(async move { databases.keep_synced().await });
        let change_feed = service.databases.change_feed().clone();
        let stopped = stop.subscribe();
        let publisher = tokio::spawn(async move { change_feed.run(stopped).await });
        if let Some(mailer) = mailer {
            tasks.spawn(mail::deliver(Arc::clone(&service), mailer));
        }
        if let Ok(billing::Settings { stripe: Some(stripe), .. }) = service.settings.area() {
            tasks.spawn(seats::follow(Arc::clone(&service), stripe.clone()));
        }
        Self { service, tasks, publisher, stop }
    }

    /// Stops the tasks and returns leased calls. Call it after the last request.
    pub async fn stop(mut self) {
        // Only the meter holds state that would be lost. Another server continues the other work.
        self.stop.send_replace(true);
        let finished = async {
            // Publishes the last commits too. A task that panicked has already logged it.
            let _ = (&mut self.publisher).await;
            self.service.meter.give_back().await;
        };
        if tokio::time::timeout(STOP_WAIT, finished).await.is_err() {
            tracing::warn!("the database did not answer in time: leased calls are lost");
        }
        self.tasks.shutdown().await;
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}
