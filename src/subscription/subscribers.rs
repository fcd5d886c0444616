//! The subscribers of one source. Each event is read once and sent to all of them.
//!
//! A subscriber has a short queue. If it is full, the source waits for a limited time and then
//! drops the subscriber. The queues of all subscribers therefore hold few events in memory.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::error::Error;

/// The length of a subscriber's queue, and how long the source waits when it is full. A transport
/// waits as long for its client.
const QUEUE: usize = 4;
const SEND_WAIT: Duration = Duration::from_secs(10);

/// A message from a source to its subscribers.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A response, as JSON.
    Next(Arc<str>),
    /// The reason why no other message follows.
    End(Error),
}

/// The subscribers of a source. `None` after the source has ended.
#[derive(Debug)]
pub(super) struct Subscribers(Mutex<Option<Vec<mpsc::Sender<Event>>>>);

impl Subscribers {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    /// Receives all messages from now on. Returns `None` if the source has ended.
    pub(super) fn join(&self) -> Option<mpsc::Receiver<Event>> {
        let mut members = self.0.lock();
        let members = members.as_mut()?;
        members.retain(|member| !member.is_closed());
        let (sender, receiver) = mpsc::channel(QUEUE);
        members.push(sender);
        Some(receiver)
    }

    pub(super) async fn send(&self, event: &Event) {
        let members = self.0.lock().clone().unwrap_or_default();
        let dropped = deliver(&members, event).await;
        if let Some(members) = self.0.lock().as_mut() {
            members.retain(|member| !dropped.iter().any(|dropped| dropped.same_channel(member)));
        }
    }

    /// Sends the last message. Later subscribers start a new source.
    pub(super) async fn end(&self, error: Error) {
        let members = self.0.lock().take().unwrap_or_default();
        deliver(&members, &Event::End(error)).await;
    }

    /// Ends without a message, for a source that was stopped.
    pub(super) fn close(&self) {
        self.0.lock().take();
    }
}

/// Returns the subscribers that have left or did not keep up.
async fn deliver(members: &[mpsc::Sender<Event>], event: &Event) -> Vec<mpsc::Sender<Event>> {
    let (mut gone, mut slow) = (Vec::new(), Vec::new());
    for member in members {
        match member.try_send(event.clone()) {
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => gone.push(member.clone()),
            Err(TrySendError::Full(event)) => slow.push((member, event)),
        }
    }
    let waiting = slow.into_iter().map(|(member, event)| async move {
        member.send_timeout(event, SEND_WAIT).await.err().map(|_| member.clone())
    });
    gone.extend(join_all(waiting).await.into_iter().flatten());
    gone
}
