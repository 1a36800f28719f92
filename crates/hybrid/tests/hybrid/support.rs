//! A broker that does as it is told, and shorthands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use trunkline_core::{
    Attributes, BatchResult, Broker, Capabilities, Data, Decision, Delivery, Durability, Error,
    ErrorKind, Event, Group, Health, Pattern, PublishOptions, Publishing, Result, RetryClass,
    Route, RouteContext, Settle, Settling, SubscribeOptions, Subscription, SubscriptionExt, Topic,
    Verdict,
};
use trunkline_memory::{MemoryBroker, MemoryConfig};

pub(crate) fn memory() -> MemoryBroker {
    MemoryBroker::new(MemoryConfig::default())
}

pub(crate) fn event(id: &str, key: &str) -> Event {
    event_on("orders.placed", id, key)
}

/// The type of an event is its topic, so that strategies can be told by either.
pub(crate) fn event_on(topic: &str, id: &str, key: &str) -> Event {
    let topic = Topic::new(topic).unwrap();
    let draft = Event::from_data(topic.as_str(), topic.clone(), Data::json("1")).id(id);
    let draft = if key.is_empty() { draft } else { draft.key(key) };
    draft.build().unwrap()
}

pub(crate) fn group(name: &str) -> SubscribeOptions {
    SubscribeOptions::group(Group::new(name).unwrap(), [Pattern::all()])
}

pub(crate) fn broadcast() -> SubscribeOptions {
    SubscribeOptions::broadcast([Pattern::all()])
}

/// A strategy that sends everything one way.
pub(crate) fn always(
    route: Route,
) -> impl Fn(&Attributes, &RouteContext) -> Decision + Send + Sync + 'static {
    move |_, _| Decision::new(route, "always")
}

/// A strategy by the first letter of the id: `l`, `r` or `b`.
pub(crate) fn by_id(event: &Attributes, _context: &RouteContext) -> Decision {
    let route = match event.id().to_string().as_bytes()[0] {
        b'l' => Route::Local,
        b'r' => Route::Remote,
        _ => Route::Both,
    };
    Decision::new(route, "the first letter of the id")
}

pub(crate) async fn publish(broker: &impl Broker, events: &[Event]) -> BatchResult {
    broker.publish(events, &PublishOptions::default()).await
}

pub(crate) fn kinds(result: &BatchResult) -> Vec<(usize, ErrorKind)> {
    result.failures().map(|(place, error)| (place, error.kind())).collect()
}

/// The ids of everything that can be had at once, each acknowledged.
pub(crate) async fn drain(subscription: &mut Box<dyn Subscription>) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(delivery) = next_now(subscription).await {
        ids.push(delivery.event().id().to_string());
        delivery.ack().await.unwrap();
    }
    ids
}

/// The next delivery, if there is one already.
pub(crate) async fn next_now(subscription: &mut Box<dyn Subscription>) -> Option<Delivery> {
    let mut next = std::pin::pin!(subscription.next());
    std::future::poll_fn(|cx| match next.as_mut().poll(cx) {
        Poll::Ready(found) => Poll::Ready(found.unwrap()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// What the next publish of a [`Scripted`] broker does.
pub(crate) enum Script {
    /// Fails some events at once.
    Fail(Vec<(usize, ErrorKind, RetryClass)>),
    /// Waits for its result.
    Gate(oneshot::Receiver<BatchResult>),
}

/// A broker that accepts everything unless told otherwise, and remembers what it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Scripted {
    pub(crate) capabilities: Capabilities,
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    script: VecDeque<Script>,
    pub(crate) published: Vec<(Vec<Event>, PublishOptions)>,
    pub(crate) health: Health,
    pub(crate) refuse_subscribe: bool,
    pub(crate) subscribed: usize,
    pub(crate) left: usize,
    pub(crate) closed: usize,
    pub(crate) acked: Vec<u64>,
    pub(crate) released: Vec<u64>,
    feeds: Vec<mpsc::UnboundedSender<Result<Delivery>>>,
    next_token: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("published", &self.published).finish_non_exhaustive()
    }
}

impl Scripted {
    pub(crate) fn new() -> Self {
        let mut capabilities = Capabilities::minimal("scripted", Durability::Replicated);
        capabilities.history = true;
        capabilities.delay = true;
        let state = State {
            script: VecDeque::new(),
            published: Vec::new(),
            health: Health::up(),
            refuse_subscribe: false,
            subscribed: 0,
            left: 0,
            closed: 0,
            acked: Vec::new(),
            released: Vec::new(),
            feeds: Vec::new(),
            next_token: 0,
        };
        Self { capabilities, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn will(&self, script: Script) {
        self.state().script.push_back(script);
    }

    /// The next publish fails these places, each with the retry class of its kind.
    pub(crate) fn will_fail(&self, failures: &[(usize, ErrorKind)]) {
        let class = |kind| Error::new(kind, "x", "x").retry();
        let failures = failures.iter().map(|&(place, kind)| (place, kind, class(kind)));
        self.will(Script::Fail(failures.collect()));
    }

    /// The next publish waits until the sender is used.
    pub(crate) fn will_wait(&self) -> oneshot::Sender<BatchResult> {
        let (sender, receiver) = oneshot::channel();
        self.will(Script::Gate(receiver));
        sender
    }

    /// The ids of each inner batch.
    pub(crate) fn batches(&self) -> Vec<Vec<String>> {
        let ids = |events: &Vec<Event>| events.iter().map(|e| e.id().to_string()).collect();
        self.state().published.iter().map(|(events, _)| ids(events)).collect()
    }

    pub(crate) fn published(&self, batch: usize, place: usize) -> Event {
        self.state().published[batch].0[place].clone()
    }

    /// Delivers to every live subscription.
    pub(crate) fn deliver(&self, event: &Event) {
        let mut state = self.state();
        for feed in state.feeds.clone() {
            let token = state.next_token;
            state.next_token += 1;
            let handle: Arc<dyn Settle> = Arc::new(self.clone());
            feed.send(Ok(Delivery::new(event.clone(), handle, token))).unwrap();
        }
    }

    /// Ends every subscription, with an error or without.
    pub(crate) fn end(&self, error: Option<ErrorKind>) {
        for feed in std::mem::take(&mut self.state().feeds) {
            if let Some(kind) = error {
                feed.send(Err(Error::new(kind, "consume", "as told"))).unwrap();
            }
        }
    }
}

fn failed(failures: Vec<(usize, ErrorKind, RetryClass)>) -> BatchResult {
    let mut result = BatchResult::accepted();
    for (place, kind, class) in failures {
        result.fail(place, Error::new(kind, "publish", "as told").with_retry(class));
    }
    result
}

#[async_trait]
impl Broker for Scripted {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        let mut state = self.state();
        state.published.push((events.to_vec(), options.clone()));
        match state.script.pop_front() {
            None => Publishing::Ready(BatchResult::accepted()),
            Some(Script::Fail(failures)) => Publishing::Ready(failed(failures)),
            Some(Script::Gate(gate)) => Publishing::waiting(async move { gate.await.unwrap() }),
        }
    }

    async fn subscribe(&self, _options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        let mut state = self.state();
        if state.refuse_subscribe {
            return Err(Error::new(ErrorKind::Disconnected, "subscribe", "as told"));
        }
        state.subscribed += 1;
        let (sender, receiver) = mpsc::unbounded_channel();
        state.feeds.push(sender);
        Ok(Box::new(Fed { broker: self.clone(), receiver }))
    }

    async fn health(&self) -> Health {
        self.state().health.clone()
    }

    async fn close(&self, _deadline: Duration) -> Result<()> {
        self.state().closed += 1;
        self.end(None);
        Ok(())
    }
}

impl Settle for Scripted {
    fn settle(&self, token: u64, _event: &Event, _verdict: Verdict) -> Settling {
        self.state().acked.push(token);
        Settling::Ready(Ok(()))
    }

    fn release(&self, token: u64, _event: Event, _attempts: u32, _redeliveries: u32) {
        self.state().released.push(token);
    }
}

struct Fed {
    broker: Scripted,
    receiver: mpsc::UnboundedReceiver<Result<Delivery>>,
}

#[async_trait]
impl Subscription for Fed {
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<bool>> {
        let before = out.len();
        while out.len() - before < max {
            match self.receiver.poll_recv(cx) {
                Poll::Ready(Some(Ok(delivery))) => out.push(delivery),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                _ if out.len() > before => break,
                Poll::Ready(None) => return Poll::Ready(Ok(false)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(true))
    }

    async fn close(self: Box<Self>, _deadline: Duration) -> Result<()> {
        self.broker.state().left += 1;
        Ok(())
    }
}
