//! The subscribers of one source: each event is read once and sent to all of them.
//!
//! A subscriber has a short queue. The source waits for one that does not keep up, for a limited
//! time, then drops it; so an audience keeps a few events in memory, however many subscribers it
//! has.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::error::Error;

/// Events that a subscriber may be behind, and how long the source waits for it then: as long as a
/// transport does for a client.
const QUEUE: usize = 4;
const SEND_WAIT: Duration = Duration::from_secs(10);

/// What a source sends.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A response, as JSON.
    Next(Arc<str>),
    /// Why no other follows.
    End(Error),
}

/// Those who receive the events of a source.
#[derive(Debug)]
pub(super) struct Audience(Mutex<Option<Vec<mpsc::Sender<Event>>>>);

impl Audience {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    /// Receives what is sent from now on; `None` when the source has ended.
    pub(super) fn join(&self) -> Option<mpsc::Receiver<Event>> {
        let mut members = self.lock();
        let members = members.as_mut()?;
        members.retain(|member| !member.is_closed());
        let (sender, receiver) = mpsc::channel(QUEUE);
        members.push(sender);
        Some(receiver)
    }

    pub(super) async fn send(&self, event: &Event) {
        let members = self.lock().clone().unwrap_or_default();
        let dropped = deliver(&members, event).await;
        if let Some(members) = self.lock().as_mut() {
            members.retain(|member| !dropped.iter().any(|dropped| dropped.same_channel(member)));
        }
    }

    /// Sends the last event. A subscriber that comes later begins a new source.
    pub(super) async fn end(&self, error: Error) {
        let members = self.lock().take().unwrap_or_default();
        deliver(&members, &Event::End(error)).await;
    }

    /// Ends without a word, for a source that was stopped.
    pub(super) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<mpsc::Sender<Event>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers with those that have left or did not keep up.
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
