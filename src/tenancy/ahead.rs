//! The beginning of a transaction whose answer nobody waits for yet.

use std::{future::ready, pin::Pin};

use futures_util::FutureExt;

use super::connection::{Answer, Link};

type First = Pin<Box<dyn Future<Output = Result<Answer, sqlx::Error>> + Send>>;

/// Sent; answered some time.
pub(super) struct Ahead(Option<First>);

impl Ahead {
    /// Sends it.
    pub(super) async fn begin(
        link: &Link,
        first: impl Future<Output = Result<Answer, sqlx::Error>> + Send + 'static,
    ) -> Self {
        let mut first: First = Box::pin(first);
        // The first poll sends everything. Whoever asks for the answer looks anew: nobody is to be woken by it before.
        let mut early = (&mut first).now_or_never();
        if early.is_none() && link.is_sending() {
            // Something has to be prepared first, and whatever follows would wait behind that for ever.
            early = Some(first.as_mut().await);
        }
        Self(Some(early.map_or(first, |early| Box::pin(ready(early)))))
    }

    pub(super) async fn answer(mut self) -> Result<Answer, sqlx::Error> {
        let answer = match &mut self.0 {
            Some(first) => first.await,
            None => Err(sqlx::Error::PoolClosed),
        };
        // Over.
        self.0 = None;
        answer
    }
}

impl Drop for Ahead {
    /// An answer that is there and that nobody has looked at was no silence.
    fn drop(&mut self) {
        if let Some(first) = &mut self.0 {
            let _ = first.now_or_never();
        }
    }
}
