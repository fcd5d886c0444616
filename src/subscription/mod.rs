//! Subscriptions. Each event counts as an API call, and is read once for all subscriptions of one
//! user to the same operation. Organizations take turns.
//!
//! A subscription ends when its token expires, the user loses access, the calls are used up, or
//! events may have been lost. The last event states the reason.

mod source_stream;
mod subscribers;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Weak},
};

use async_graphql::Response;
use entity::{OrganizationId, UserId};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{
    admission::{FairQueue, OpenSubscription, OpenSubscriptions, SubscriptionLimits},
    error::{Error, Result},
    graphql::refusal,
    metrics::Watching,
    request::{GraphqlService, Prepared, ReadFrom, RequestContext},
    tenancy::{OpenFor, SubscriberEnded},
};
use source_stream::{Blueprint, Source};
use subscribers::{Event, Subscribers};

/// Events use at most one of this many connections, because requests take precedence.
const CONNECTIONS_OF_EVENT: usize = 4;

/// Everything that the response to an event can depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    organization: OrganizationId,
    user: UserId,
    issuer: String,
    subject: String,
    email: Option<String>,
    claim: Option<String>,
    slug: Option<String>,
    operation: Vec<u8>,
}

/// A running source. It stops when it has no subscriber.
#[derive(Debug)]
struct Running {
    audience: Arc<Subscribers>,
    _task: AbortOnDropHandle<()>,
}

/// The open subscriptions of a server.
#[derive(Debug)]
pub struct Subscriptions {
    open: OpenSubscriptions,
    queue: FairQueue,
    sources: Mutex<HashMap<Key, Weak<Running>>>,
}

/// One subscription.
struct Subscriber {
    events: mpsc::Receiver<Event>,
    expiry: Pin<Box<Sleep>>,
    request_id: Uuid,
    ended: bool,
    _source: Arc<Running>,
    _open: OpenSubscription,
    _watching: Watching,
}

impl Subscriptions {
    /// Creates an empty set. `connections` is the number of connections for requests.
    #[must_use]
    pub fn new(limits: SubscriptionLimits, connections: usize) -> Self {
        Self {
            open: OpenSubscriptions::new(limits),
            queue: FairQueue::new(connections / CONNECTIONS_OF_EVENT),
            sources: Mutex::default(),
        }
    }

    /// Subscribes and returns the responses as JSON. Every change that is committed from now on is
    /// included.
    ///
    /// # Errors
    ///
    /// Fails when the caller lacks the permission, has too many subscriptions, or when changes
    /// cannot be received.
    pub(crate) async fn subscribe(
        &self,
        service: Arc<GraphqlService>,
        prepared: Prepared,
        call: RequestContext,
    ) -> Result<BoxStream<'static, String>> {
        let traits = prepared.subscribes_to().cloned();
        let traits =
            traits.ok_or_else(|| Error::internal("the operation is not a subscription"))?;
        let opening = async {
            let (opened, _) = service.open(&call, &OpenFor::Query, ReadFrom::Primary).await?;
            let tenant = opened.session.authorize(traits.permission)?;
            // The count may wait for a lease of calls, and then must hold no connection.
            opened.session.transaction().release();
            service.count(opened.requested, opened.billing_version).await?;
            Ok::<_, Error>((tenant.organization_id, opened.session.viewer().user_id))
        };
        let (organization, user) =
            timeout(service.timeout, opening).await.map_err(|_| Error::Timeout)??;
        let open = self.open.open(user, organization)?;
        let left = call.caller.expires_at - service.settings.clock.now();
        let (watching, request_id) = (service.metrics.subscription(), call.request_id);
        let queue = self.queue.clone();
        let blueprint = Blueprint { service, prepared, call, traits, user, organization, queue };
        let (source, events) = self.join(blueprint).await?;
        let subscriber = Subscriber {
            events,
            expiry: Box::pin(sleep(left.to_std().unwrap_or_default())),
            request_id,
            ended: false,
            _source: source,
            _open: open,
            _watching: watching,
        };
        Ok(stream::unfold(subscriber, |mut subscriber| async move {
            let response = subscriber.next().await?;
            Some((response, subscriber))
        })
        .boxed())
    }

    /// Joins the running source of the same user and operation, or starts one.
    async fn join(&self, blueprint: Blueprint) -> Result<(Arc<Running>, mpsc::Receiver<Event>)> {
        let key = Key::of(&blueprint);
        if let Some(joined) = self.running(&key) {
            return Ok(joined);
        }
        let audience = Arc::new(Subscribers::new());
        let source = Source::begin(blueprint, Arc::clone(&audience)).await?;
        // A concurrent subscriber may have started one in the meantime.
        if let Some(joined) = self.running(&key) {
            return Ok(joined);
        }
        let events = audience.join().ok_or_else(|| Error::unavailable(SubscriberEnded::Broken))?;
        let task = AbortOnDropHandle::new(tokio::spawn(source.run()));
        let running = Arc::new(Running { audience, _task: task });
        let mut sources = self.sources.lock();
        if sources.len() == sources.capacity() {
            sources.retain(|_, source| source.strong_count() > 0);
        }
        sources.insert(key, Arc::downgrade(&running));
        Ok((running, events))
    }

    /// The number of sources that run. Each receives every change that is committed from now on.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.sources.lock().values().filter(|source| source.strong_count() > 0).count()
    }

    fn running(&self, key: &Key) -> Option<(Arc<Running>, mpsc::Receiver<Event>)> {
        let running = self.sources.lock().get(key).and_then(Weak::upgrade)?;
        let events = running.audience.join()?;
        Some((running, events))
    }
}

impl Key {
    fn of(blueprint: &Blueprint) -> Self {
        let Blueprint { call, prepared, user, organization, .. } = blueprint;
        let caller = &call.caller;
        Self {
            organization: *organization,
            user: *user,
            issuer: caller.issuer.clone(),
            subject: caller.subject.clone(),
            email: caller.email.clone(),
            claim: caller.organization.clone(),
            slug: call.destination.slug.clone(),
            operation: prepared.fingerprint(),
        }
    }
}

impl Subscriber {
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let event = tokio::select! {
            biased;
            () = &mut self.expiry => Event::End(Error::Unauthenticated("the token has expired")),
            // A source that ends without a message has dropped this subscriber.
            event = self.events.recv() => {
                event.unwrap_or_else(|| Event::End(Error::unavailable(SubscriberEnded::Behind)))
            }
        };
        match event {
            Event::Next(response) => Some(response.to_string()),
            Event::End(error) => {
                self.ended = true;
                let response = Response::from_errors(vec![refusal(&error, self.request_id)]);
                // Serialization cannot fail: all keys are strings.
                Some(serde_json::to_string(&response).unwrap_or_default())
            }
        }
    }
}
