//! The answer to the first message of a transaction, which may still be on its way.

use std::{future::ready, pin::Pin};

use futures_util::FutureExt;
use tokio::task::coop::unconstrained;

use crate::{Answer, Error, Result, connection::Connection};

type Pending = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// The answer to a first message that was sent. It may still be on its way.
pub(crate) struct FirstAnswer(Option<Pending>);

impl FirstAnswer {
    /// Sends the first message.
    pub(crate) async fn begin(
        link: &Connection,
        first: impl Future<Output = Result<Answer>> + Send + 'static,
    ) -> Self {
        let mut first: Pending = Box::pin(first);
        // The first poll sends everything; `unconstrained` keeps tokio's budget from preventing
        // that.
        let mut early = unconstrained(&mut first).now_or_never();
        if early.is_none() && link.is_sending() {
            // A statement has to be prepared first. Later statements would wait for the turn to
            // send, which this future holds until it is polled again.
            early = Some(first.as_mut().await);
        }
        Self(Some(early.map_or(first, |early| Box::pin(ready(early)))))
    }

    pub(crate) async fn receive(mut self) -> Result<Answer> {
        let answer = match &mut self.0 {
            Some(first) => first.await,
            None => Err(Error::closed()),
        };
        // The answer was received, so the drop has nothing to poll.
        self.0 = None;
        answer
    }
}

impl Drop for FirstAnswer {
    /// Polls once more, so that an answer that has arrived does not count as missing in
    /// [`StallGuard`](crate::pool::StallGuard).
    fn drop(&mut self) {
        if let Some(first) = &mut self.0 {
            let _ = first.now_or_never();
        }
    }
}
