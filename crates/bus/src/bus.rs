//! The event bus: one typed API over whatever broker the configuration chose.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trunkline_core::{
    Broker, Error, ErrorKind, EventStore, Group, Health, HealthStatus, PublishOptions, Result,
    Subscription,
};

use crate::admission::Admission;
use crate::builder::EventBusBuilder;
use crate::channel::Channel;
use crate::consumer::Consumer;
use crate::in_future;
use crate::intake::take_in;
use crate::metrics::{ConsumerMetrics, Metrics, PublishCounters};
use crate::middleware::PublishMiddleware;
use crate::runtime::{ConsumerInfo, Runtime};

/// Publishes events and runs handlers, over one broker and perhaps one store; clones share it.
///
/// Dropping the last clone cancels handlers where they stand, and their events are delivered again;
/// call [`EventBus::close`] to let them finish.
#[derive(Clone)]
pub struct EventBus {
    pub(crate) inner: Arc<BusInner>,
}

pub(crate) struct BusInner {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Option<Arc<dyn EventStore>>,
    pub(crate) middleware: Vec<Box<dyn PublishMiddleware>>,
    pub(crate) source: smol_str::SmolStr,
    pub(crate) max_event_bytes: usize,
    pub(crate) options: PublishOptions,
    pub(crate) counters: PublishCounters,
    pub(crate) channels: Vec<Channel>,
    pub(crate) admission: Admission,
    consumers: Mutex<Consumers>,
}

/// The consumers that are subscribed, and what those did that have left.
#[derive(Default)]
struct Consumers {
    live: Vec<Seat>,
    /// One entry for each name that was ever subscribed, in that order.
    left: Vec<ConsumerMetrics>,
    /// The bus is closing, or closed.
    closed: bool,
}

type Intake = Arc<AsyncMutex<Stage>>;

/// How far a consumer has come on its way out.
enum Stage {
    /// A task polls the subscription, and gives it back when the consumer closes.
    Polling(JoinHandle<Box<dyn Subscription>>),
    /// Nothing comes in any more; handlers may still run.
    Stopped(Result<Box<dyn Subscription>>),
    /// The consumer has left.
    Left,
}

/// A consumer that is subscribed.
struct Seat {
    runtime: Arc<Runtime>,
    /// Sorted types of its handlers, by which members of one group are compared.
    types: Vec<Option<&'static str>>,
    intake: Intake,
}

impl EventBus {
    /// Starts a bus over `broker`.
    pub fn builder(broker: impl Broker) -> EventBusBuilder {
        EventBusBuilder::new(Arc::new(broker))
    }

    pub(crate) fn of(inner: Arc<BusInner>) -> Self {
        Self { inner }
    }

    pub(crate) fn start(parts: EventBusBuilder) -> Self {
        let mut options = PublishOptions::default();
        options.timeout = parts.publish_timeout;
        Self::of(Arc::new(BusInner {
            broker: parts.broker,
            store: parts.store,
            middleware: parts.middleware,
            source: parts.source,
            max_event_bytes: parts.max_event_bytes,
            options,
            admission: Admission::new(&parts.channels, parts.publish_timeout),
            counters: PublishCounters::default(),
            channels: parts.channels,
            consumers: Mutex::default(),
        }))
    }

    /// Subscribes a consumer. Ready when it returns: whatever is published afterwards reaches its
    /// handlers.
    ///
    /// # Errors
    /// `Unsupported` when the broker lacks what the consumer needs, naming both; `Invalid` for a
    /// consumer without handlers or topics; `Conflict` when another consumer of its group in this bus
    /// handles other types; `Closed`; `Disconnected`.
    ///
    /// # Cancel safety
    /// A dropped call leaves no consumer behind; the group itself may have been made.
    pub async fn subscribe(&self, consumer: Consumer) -> Result<ConsumerHandle> {
        let group = match &consumer.group {
            Some(group) => Some(group.as_ref().map_err(Error::duplicate)?.clone()),
            None => None,
        };
        let patterns = consumer.patterns()?;
        let covering = self.inner.channels.iter().find(|channel| channel.covers(&patterns));
        let fallback = Channel::new("default", []);
        let channel = covering.unwrap_or(&fallback);
        let name = consumer.display_name(group.as_ref());
        let capabilities = self.inner.broker.capabilities();
        let resolved = consumer.resolve(group.as_ref(), patterns, channel, capabilities);
        let (settings, options) = resolved?;
        let asker = format!("consumer `{name}`");
        capabilities.require(capabilities.dead_letters, "dead_letters", asker)?;
        let mut types: Vec<_> = consumer.handlers.iter().map(|h| h.event_type).collect();
        types.sort_unstable();
        self.inner.consumers().check(group.as_ref(), &types)?;
        let subscription = self.inner.broker.subscribe(options).await?;
        // A close that came meanwhile would not know of this consumer. Declared before the guard, the
        // subscription of a consumer that is refused is dropped after it.
        let mut consumers = self.inner.consumers();
        consumers.check(group.as_ref(), &types)?;
        let info = ConsumerInfo { name, group, bus: Arc::downgrade(&self.inner) };
        let runtime = Runtime::new(info, settings, consumer.handlers);
        let intake = tokio::spawn(take_in(Arc::clone(&runtime), subscription));
        let intake = Arc::new(AsyncMutex::new(Stage::Polling(intake)));
        let handle = ConsumerHandle { runtime: Arc::clone(&runtime), intake: Arc::clone(&intake) };
        consumers.add(Seat { runtime, types, intake });
        Ok(handle)
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// The event store, if the bus has one.
    #[must_use]
    pub fn store(&self) -> Option<&Arc<dyn EventStore>> {
        self.inner.store.as_ref()
    }

    /// How the broker, the store and the consumers are: one whose subscription has ended by itself
    /// handles nothing any more.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    pub async fn health(&self) -> Health {
        let mut health = self.inner.broker.health().await;
        if let Some(store) = &self.inner.store {
            match store.head().await {
                Ok(head) => health = health.with("store_head", head),
                Err(error) => {
                    health.status = HealthStatus::Down;
                    health = health.with("store", error);
                }
            }
        }
        for ended in self.inner.consumers().ended() {
            health.status = health.status.max(HealthStatus::Degraded);
            health = health.with(format!("consumer {ended}"), "its subscription has ended");
        }
        health
    }

    /// What the bus has done since it started.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let counters = &self.inner.counters;
        let consumers = self.inner.consumers();
        Metrics {
            published: counters.published.get(),
            rejected: counters.rejected.get(),
            stored: counters.stored.get(),
            consumers: consumers.metrics(),
        }
    }

    /// Closes cleanly: intake stops, running handlers finish and their acknowledgements land, what
    /// was not started goes back to the broker uncounted, and then the broker is closed. Idempotent.
    ///
    /// What went back is delivered to other members, or after the next start, as far as the broker's
    /// acceptance survives: on the memory broker it is gone with the process.
    ///
    /// # Errors
    /// `TimedOut` when handlers were still running at the deadline: async ones were cancelled and
    /// their events will be delivered again.
    ///
    /// # Cancel safety
    /// A dropped call leaves the bus closing; call it again.
    pub async fn close(&self, deadline: Duration) -> Result<()> {
        let deadline = in_future(deadline);
        let handles: Vec<ConsumerHandle> = {
            let mut consumers = self.inner.consumers();
            consumers.closed = true;
            consumers.live.iter().map(Seat::handle).collect()
        };
        // All stop at once; a slow consumer must not leave the others taking in more.
        handles.iter().for_each(|handle| handle.runtime.start_closing());
        let mut outcome = Ok(());
        for handle in handles {
            outcome = outcome.and(handle.finish(deadline).await);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        outcome.and(self.inner.broker.close(left).await)
    }
}

impl BusInner {
    fn consumers(&self) -> MutexGuard<'_, Consumers> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consumers {
    /// Whether a consumer with handlers of these types may join.
    fn check(&self, group: Option<&Group>, types: &[Option<&'static str>]) -> Result<()> {
        if self.closed {
            return Err(Error::new(ErrorKind::Closed, "subscribe", "the bus is closed"));
        }
        let Some(group) = group else { return Ok(()) };
        let mut members = self.live.iter().filter(|seat| {
            seat.runtime.info.group.as_ref() == Some(group) && !seat.runtime.is_closing()
        });
        if members.all(|seat| seat.types == types) {
            return Ok(());
        }
        let message = format!(
            "another consumer of group `{group}` in this bus handles other types: an event goes to \
             one of them, so put all handlers of the group into one Consumer"
        );
        Err(Error::new(ErrorKind::Conflict, "subscribe", message))
    }

    fn add(&mut self, seat: Seat) {
        let name = &seat.runtime.info.name;
        if self.left.iter().all(|known| known.name != *name) {
            self.left.push(ConsumerMetrics { name: name.clone(), ..ConsumerMetrics::default() });
        }
        self.live.push(seat);
    }

    /// Forgets a consumer that has left, save what it did.
    fn remove(&mut self, runtime: &Arc<Runtime>) {
        let Some(at) = self.live.iter().position(|seat| Arc::ptr_eq(&seat.runtime, runtime)) else {
            return;
        };
        let seat = self.live.swap_remove(at);
        add_to(&mut self.left, &snapshot(&seat.runtime));
    }

    /// The names of consumers whose subscription has ended though nobody closed them.
    fn ended(&self) -> Vec<String> {
        let ended = self.live.iter().filter(|seat| {
            // Whoever holds the stage is closing the consumer.
            let stage = seat.intake.try_lock();
            stage.is_ok_and(|stage| matches!(&*stage, Stage::Polling(task) if task.is_finished()))
        });
        ended.map(|seat| seat.runtime.info.name.clone()).collect()
    }

    fn metrics(&self) -> Vec<ConsumerMetrics> {
        let mut metrics = self.left.clone();
        for seat in &self.live {
            add_to(&mut metrics, &snapshot(&seat.runtime));
        }
        metrics
    }
}

fn add_to(totals: &mut [ConsumerMetrics], one: &ConsumerMetrics) {
    if let Some(total) = totals.iter_mut().find(|total| total.name == one.name) {
        total.add(one);
    }
}

impl Drop for BusInner {
    fn drop(&mut self) {
        // Nobody can close the consumers any more.
        self.consumers().live.iter().for_each(|seat| seat.runtime.abandon());
    }
}

impl fmt::Debug for BusInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus")
            .field("broker", &self.broker)
            .field("store", &self.store)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

impl Seat {
    fn handle(&self) -> ConsumerHandle {
        ConsumerHandle { runtime: Arc::clone(&self.runtime), intake: Arc::clone(&self.intake) }
    }
}

fn snapshot(runtime: &Runtime) -> ConsumerMetrics {
    runtime.counters.snapshot(&runtime.info.name, runtime.lanes.running())
}

/// A consumer that was subscribed. Dropping the handle changes nothing.
#[derive(Clone)]
pub struct ConsumerHandle {
    runtime: Arc<Runtime>,
    intake: Intake,
}

impl ConsumerHandle {
    /// The consumer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.runtime.info.name
    }

    /// What the consumer has done since it was subscribed.
    #[must_use]
    pub fn metrics(&self) -> ConsumerMetrics {
        snapshot(&self.runtime)
    }

    /// Leaves cleanly: running handlers finish, their acknowledgements land, and what was not started
    /// goes back to the broker uncounted. A group stays, with what waits for it. Idempotent.
    ///
    /// # Errors
    /// `TimedOut` when handlers were still running at the deadline; else what the broker says.
    ///
    /// # Cancel safety
    /// A dropped call leaves the consumer closing; call it again.
    pub async fn unsubscribe(&self, deadline: Duration) -> Result<()> {
        self.runtime.start_closing();
        self.finish(in_future(deadline)).await
    }

    async fn finish(&self, deadline: Instant) -> Result<()> {
        // Held to the end, so that a second caller waits for the first.
        let mut stage = self.intake.lock().await;
        if let Stage::Polling(task) = &mut *stage {
            *stage = Stage::Stopped(task.await.map_err(|failed| {
                let message = "the intake of a consumer died";
                Error::new(ErrorKind::Backend, "close", message).because(failed)
            }));
        }
        if matches!(*stage, Stage::Left) {
            return Ok(());
        }
        // The intake may have taken something in while the consumer began to close.
        self.runtime.start_closing();
        let outcome = self.runtime.finish(deadline).await;
        if let Some(bus) = self.runtime.info.bus.upgrade() {
            bus.consumers().remove(&self.runtime);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match std::mem::replace(&mut *stage, Stage::Left) {
            Stage::Stopped(subscription) => outcome.and(subscription?.close(left).await),
            Stage::Polling(_) | Stage::Left => outcome,
        }
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle").field("name", &self.name()).finish_non_exhaustive()
    }
}
