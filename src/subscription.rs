//! One subscription: waits for changes, and tells each in a short transaction of its own, as what its person may see then.
//!
//! It ends when the token expires, when the person may no longer see what it is about, when changes come faster than they are
//! taken, and when some may have been lost. The last event then says why.

use std::sync::Arc;

use async_graphql::{Request, Response};
use entity::UserId;
use futures_util::{Stream, StreamExt, stream};

use crate::{
    auth::Permission,
    error::{Error, Result},
    graphql::{Event, Loaders, Queue, present, refusal},
    metrics::Watching,
    request::{Call, Engine, Prepared},
    schema::to_request,
    tenancy::{Access, Change, Preference, Session, Watch, open},
    usage::{Allotment, entitlements},
};

/// What a subscription is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Projects,
    Members,
    Audit,
    Entitlements,
}

impl Topic {
    fn of(field: &str) -> Option<Self> {
        match field {
            "projectChanged" => Some(Self::Projects),
            "memberChanged" => Some(Self::Members),
            "auditLogAdded" => Some(Self::Audit),
            "entitlementChanged" => Some(Self::Entitlements),
            _ => None,
        }
    }

    /// What it takes to see anything of it.
    fn permission(self) -> Permission {
        match self {
            Self::Audit => Permission::AuditLogRead,
            Self::Projects | Self::Members | Self::Entitlements => Permission::OrganizationRead,
        }
    }
}

/// A subscription that was begun.
struct Subscription {
    engine: Arc<Engine>,
    prepared: Prepared,
    call: Call,
    topic: Topic,
    watch: Watch,
    _watching: Watching,
    user: UserId,
    /// As told last, to tell only what has changed.
    known: Vec<Allotment>,
    waiting: Vec<Response>,
    ended: bool,
}

/// Begins to watch. What is committed from now on is told.
///
/// # Errors
///
/// When the caller may not watch this, or here, or nobody can.
pub async fn subscribe(
    engine: Arc<Engine>,
    prepared: Prepared,
    call: Call,
) -> Result<impl Stream<Item = Response> + Send + 'static> {
    let topic = prepared.subscribes_to().and_then(Topic::of);
    let topic = topic.ok_or_else(|| Error::internal("nobody tells of this field"))?;
    let opening = async {
        let opened = engine.open(&call, Access::Read, Preference::Home).await?;
        let tenant = opened.session.authorize(topic.permission())?;
        engine.count(&opened.session, opened.billing_version).await?;
        Ok::<_, Error>((tenant, opened.session.viewer().user_id))
    };
    let (tenant, user) =
        tokio::time::timeout(engine.timeout, opening).await.map_err(|_| Error::Timeout)??;
    let watch = engine.placement.notices().watch(tenant.organization_id).await?;
    let watching = engine.metrics.subscription();
    let mut subscription = Subscription {
        engine,
        prepared,
        call,
        topic,
        watch,
        _watching: watching,
        user,
        known: Vec::new(),
        waiting: Vec::new(),
        ended: false,
    };
    if topic == Topic::Entitlements {
        // Read after the watch began, so that nothing falls between.
        let _turn = subscription.engine.placement.turn_for_event().await?;
        let session = subscription.open().await?;
        subscription.known = entitlements(&session, &subscription.engine.meter).await?;
    }
    Ok(stream::unfold(subscription, |mut subscription| async move {
        let response = subscription.next().await?;
        Some((response, subscription))
    })
    .boxed())
}

impl Subscription {
    async fn next(&mut self) -> Option<Response> {
        loop {
            if let Some(response) = self.waiting.pop() {
                return Some(response);
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.wait().await {
                self.ended = true;
                self.waiting =
                    vec![Response::from_errors(vec![refusal(&error, self.call.request_id)])];
            }
        }
    }

    /// Waits for a change that matters, and executes the document for it.
    async fn wait(&mut self) -> Result<()> {
        let left = self.call.caller.expires_at - self.engine.environment.clock.now();
        let expiry = tokio::time::sleep(left.to_std().unwrap_or_default());
        let change = tokio::select! {
            biased;
            () = expiry => return Err(Error::Unauthenticated("the token has expired")),
            change = self.watch.next() => change.map_err(Error::unavailable)?,
        };
        match (change, self.topic) {
            (Change::Access(user), _) if user.is_none_or(|user| user == self.user) => {
                let _turn = self.engine.placement.turn_for_event().await?;
                self.open().await?.authorize(self.topic.permission())?;
            }
            (Change::Project(id), Topic::Projects) => self.tell(id).await?,
            (Change::Member(id), Topic::Members) => self.tell(id).await?,
            (Change::AuditLog(at, id), Topic::Audit) => self.tell((at, id)).await?,
            (Change::Entitlements, Topic::Entitlements) => self.tell_entitlements().await?,
            _ => {}
        }
        Ok(())
    }

    async fn tell<T: Send + Sync + 'static>(&mut self, event: T) -> Result<()> {
        let _turn = self.engine.placement.turn_for_event().await?;
        let session = self.open().await?;
        let response = self.execute(&session, event).await?;
        self.waiting.push(response);
        Ok(())
    }

    async fn tell_entitlements(&mut self) -> Result<()> {
        let _turn = self.engine.placement.turn_for_event().await?;
        let session = self.open().await?;
        let now = entitlements(&session, &self.engine.meter).await?;
        for entitlement in &now {
            // Calls are counted with every request: they would drown what changes by somebody's doing.
            let known = self
                .known
                .iter()
                .find(|known| known.allowance.feature == entitlement.allowance.feature);
            let same = known.is_some_and(|known| {
                known.allowance == entitlement.allowance
                    && (known.used == entitlement.used || entitlement.resets_at.is_some())
            });
            if !same {
                let response = self.execute(&session, *entitlement).await?;
                self.waiting.insert(0, response);
            }
        }
        self.known = now;
        Ok(())
    }

    /// A transaction of its own, in which the person's role is what it is now.
    async fn open(&self) -> Result<Arc<Session>> {
        let Engine { placement, environment, timeout, .. } = self.engine.as_ref();
        let Call { caller, destination, .. } = &self.call;
        let opening =
            open(placement, environment, caller, destination, Access::Read, Preference::Home);
        let opened =
            tokio::time::timeout(*timeout, opening).await.map_err(|_| Error::Timeout)??;
        opened.session.authorize(self.topic.permission())?;
        Ok(Arc::new(opened.session))
    }

    async fn execute<T: Send + Sync + 'static>(
        &self,
        session: &Arc<Session>,
        event: T,
    ) -> Result<Response> {
        let queue = Queue::default();
        let loaders = Loaders::new(Arc::clone(session), queue.clone(), Access::Read);
        let request: Request = to_request(self.prepared.document())
            .data(Event(event))
            .data(Arc::clone(session))
            .data(self.engine.meter.clone())
            .data(loaders);
        let telling = queue.drive(session.transaction(), self.engine.api.tell(request));
        let told = tokio::time::timeout(self.engine.timeout, telling).await;
        if let Some(failure) = session.transaction().failure() {
            return Err(failure);
        }
        let response = told.map_err(|_| Error::Timeout)?;
        let mut response = response.ok_or_else(|| Error::internal("an event told nothing"))?;
        present(&mut response, self.call.request_id);
        session.transaction().release();
        Ok(response)
    }
}
