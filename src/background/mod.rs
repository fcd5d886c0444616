//! What a server does by itself, beside answering requests.

mod mail;
mod partitions;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::{mail::Mailer, request::Engine};

/// The work in the background; it ends when this is dropped.
#[derive(Debug)]
pub struct Background {
    engine: Arc<Engine>,
    tasks: JoinSet<()>,
}

impl Background {
    /// Begins: keeps the meter and the partitions of the audit log, and sends mail where there is a server for it.
    #[must_use]
    pub fn start(engine: Arc<Engine>, mailer: Option<Mailer>) -> Self {
        let mut tasks = JoinSet::new();
        let meter = engine.meter.clone();
        tasks.spawn(async move { meter.keep().await });
        tasks.spawn(partitions::keep_ahead(Arc::clone(&engine)));
        let notices = engine.placement.notices().clone();
        tasks.spawn(async move { notices.run().await });
        if let Some(mailer) = mailer {
            tasks.spawn(mail::deliver(Arc::clone(&engine), mailer));
        }
        Self { engine, tasks }
    }

    /// Ends, after the last request, and gives back what was leased.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.engine.meter.give_back().await;
    }
}
