//! What a server does by itself, beside answering requests.

mod mail;
mod maintenance;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{mail::Mailer, request::GraphqlService};

/// How long a server that stops waits for its meter.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// The work in the background; it ends when this is dropped.
#[derive(Debug)]
pub struct Background {
    service: Arc<GraphqlService>,
    tasks: JoinSet<()>,
    telling: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Background {
    /// Begins: keeps the meter and the partitions of the audit log, and sends mail where there is a
    /// server for it.
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
        let telling = tokio::spawn(async move { change_feed.run(stopped).await });
        if let Some(mailer) = mailer {
            tasks.spawn(mail::deliver(Arc::clone(&service), mailer));
        }
        Self { service, tasks, telling, stop }
    }

    /// Ends, after the last request, and gives back what was leased.
    pub async fn stop(mut self) {
        // The meter is asked, because what it has in hand would be lost; whatever else goes on
        // begins anew elsewhere.
        self.stop.send_replace(true);
        let finished = async {
            // What was committed last is told as well; a task that panicked has said so.
            let _ = (&mut self.telling).await;
            self.service.meter.give_back().await;
        };
        if tokio::time::timeout(STOP_WAIT, finished).await.is_err() {
            tracing::warn!("the database was too slow: calls that were leased are lost");
        }
        self.tasks.shutdown().await;
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.telling.abort();
    }
}
