//! A consumer: handlers, the topics they take, and how they are run.

use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use trunkline_core::{
    Capabilities, Error, ErrorKind, Group, OnFull, Order, Pattern, Result, StartAt,
    SubscribeOptions,
};

use crate::channel::Channel;
use crate::handler::{Handler, Incoming, IntoHandler};
use crate::lanes::WorkerId;
use crate::policy::{OnUnhandled, RetryPolicy};
use crate::runtime::Runtime;
use crate::worker::work;

/// Handlers that share a group, or a broadcast subscription, and how they are run.
///
/// All handlers of a group belong into one consumer: an event goes to one member of the group, and a
/// member that has no handler for its type cannot pass it on.
///
/// What is not set here comes from the first channel that covers the consumer's topics, and else has
/// the channel's defaults.
///
/// ```
/// use trunkline_bus::Consumer;
/// use trunkline_core::Event;
///
/// let audit = Consumer::group("audit")
///     .topics(["orders.#", "payments.#"])
///     .concurrency(8)
///     .on(|event: Event| async move { println!("{}", event.id()) });
/// ```
#[must_use = "a consumer does nothing until the bus subscribes it"]
pub struct Consumer {
    pub(crate) group: Option<Result<Group>>,
    name: Option<String>,
    topics: Vec<Result<Pattern>>,
    pub(crate) handlers: Vec<Registration>,
    /// `versions` was called where there was no handler to take them.
    versions_of_none: bool,
    settings: Unset,
}

#[derive(Default)]
struct Unset {
    concurrency: Option<usize>,
    prefetch: Option<usize>,
    retry: Option<RetryPolicy>,
    timeout: Option<Duration>,
    on_unhandled: Option<OnUnhandled>,
    order: Option<Order>,
    lanes: Option<bool>,
    start: StartAt,
    buffer: Option<(usize, OnFull)>,
}

/// How a consumer's handlers are run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Option<Duration>,
    pub(crate) on_unhandled: OnUnhandled,
    pub(crate) order: Order,
    pub(crate) lanes: bool,
}

type Worker = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Makes a worker of a pool; its future is boxed once and handles many events.
type Hire = Box<dyn Fn(Arc<Runtime>, WorkerId) -> Worker + Send + Sync>;

/// One handler of a consumer.
pub(crate) struct Registration {
    pub(crate) event_type: Option<&'static str>,
    pub(crate) versions: RangeInclusive<u32>,
    topic: Option<Pattern>,
    pub(crate) cancellable: bool,
    pub(crate) hire: Hire,
}

impl Consumer {
    /// A member of a durable group: each event goes to one member.
    pub fn group(name: &str) -> Self {
        Self { group: Some(Group::new(name)), ..Self::broadcast() }
    }

    /// A broadcast subscriber: it gets every event that is published while it lives.
    pub fn broadcast() -> Self {
        Self {
            group: None,
            name: None,
            topics: Vec::new(),
            handlers: Vec::new(),
            versions_of_none: false,
            settings: Unset::default(),
        }
    }

    /// Names the consumer in logs and metrics; the group's name where it is not set.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds a handler: an async closure of a [`trunkline_core::Typed`] message or of an
    /// [`trunkline_core::Event`], perhaps with a [`crate::Context`], or a [`Handler`].
    ///
    /// A handler of [`trunkline_core::Event`] is the group's default: it takes every type that has no
    /// handler of its own.
    pub fn on<M, Marker, H>(mut self, handler: H) -> Self
    where
        M: Incoming,
        H: IntoHandler<M, Marker>,
    {
        let handler = Arc::new(handler.into_handler());
        let version = M::VERSION.max(1);
        self.handlers.push(Registration {
            event_type: M::TYPE,
            versions: version..=version,
            topic: M::TOPIC.map(Pattern::from),
            cancellable: <H::Handler as Handler<M>>::CANCELLABLE,
            hire: Box::new(move |runtime, worker| {
                Box::pin(work::<M, _>(runtime, worker, Arc::clone(&handler)))
            }),
        });
        self
    }

    /// Lets the handler that was added last take these versions of its type.
    pub fn versions(mut self, versions: RangeInclusive<u32>) -> Self {
        match self.handlers.last_mut() {
            Some(last) => last.versions = versions,
            None => self.versions_of_none = true,
        }
        self
    }

    /// Takes these topics, instead of those that the handlers' types state.
    pub fn topics<'a>(mut self, topics: impl IntoIterator<Item = &'a str>) -> Self {
        self.topics.extend(topics.into_iter().map(Pattern::new));
        self
    }

    /// Runs at most so many events of each handler at a time; events of one key never overlap.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = Some(concurrency);
        self
    }

    /// Holds at most so many deliveries, waiting ones included.
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.settings.prefetch = Some(prefetch);
        self
    }

    /// Sets what happens when an attempt fails.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.settings.retry = Some(retry);
        self
    }

    /// Fails an attempt that runs longer; a plain function cannot be stopped and is waited for.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Sets what happens to types that no handler takes.
    pub fn on_unhandled(mut self, on_unhandled: OnUnhandled) -> Self {
        self.settings.on_unhandled = Some(on_unhandled);
        self
    }

    /// Sets whether the order of a key is kept.
    pub fn order(mut self, order: Order) -> Self {
        self.settings.order = Some(order);
        self
    }

    /// Lets more urgent events overtake less urgent ones.
    pub fn lanes(mut self) -> Self {
        self.settings.lanes = Some(true);
        self
    }

    /// Sets where a new group begins.
    pub fn start_at(mut self, start: StartAt) -> Self {
        self.settings.start = start;
        self
    }

    /// Sets how many undelivered events a new group keeps, and what happens beyond.
    pub fn buffer(mut self, events: usize, on_full: OnFull) -> Self {
        self.settings.buffer = Some((events, on_full));
        self
    }

    /// The topics to subscribe to.
    pub(crate) fn patterns(&self) -> Result<Vec<Pattern>> {
        let invalid = |message| Err(Error::new(ErrorKind::Invalid, "subscribe", message));
        if self.handlers.is_empty() {
            return invalid("the consumer has no handler: add one with `on`");
        }
        if self.versions_of_none {
            return invalid("`versions` stands after the handler that takes them");
        }
        self.check_handlers()?;
        let mut patterns = Vec::new();
        for topic in &self.topics {
            patterns.push(topic.as_ref().map_err(Error::duplicate)?.clone());
        }
        if patterns.is_empty() {
            patterns.extend(self.handlers.iter().filter_map(|handler| handler.topic.clone()));
        }
        patterns.sort();
        patterns.dedup();
        if patterns.is_empty() {
            return invalid("a handler of every type needs `topics`, such as `.topics([\"#\"])`");
        }
        Ok(patterns)
    }

    /// Every event has at most one handler.
    fn check_handlers(&self) -> Result<()> {
        for (at, handler) in self.handlers.iter().enumerate() {
            let clash = self.handlers[..at].iter().any(|other| {
                let overlap = handler.versions.start() <= other.versions.end()
                    && other.versions.start() <= handler.versions.end();
                handler.event_type == other.event_type && (overlap || handler.event_type.is_none())
            });
            if clash {
                let what = handler.event_type.unwrap_or("every type");
                let message = format!(
                    "two handlers of one consumer take `{what}`: only one could run; give one a \
                     consumer of its own, in another group"
                );
                return Err(Error::new(ErrorKind::Invalid, "subscribe", message));
            }
        }
        Ok(())
    }

    /// What the broker and the runtime are to do, by the consumer's settings and then the channel's.
    pub(crate) fn resolve(
        &self,
        group: Option<&Group>,
        patterns: Vec<Pattern>,
        channel: &Channel,
        capabilities: &Capabilities,
    ) -> Result<(Settings, SubscribeOptions)> {
        let own = &self.settings;
        let concurrency = own.concurrency.unwrap_or(channel.concurrency);
        // Enough that a worker finds its next event here while acknowledgements are under way; not so
        // many that one member hoards what others could handle.
        let usual = concurrency.saturating_mul(4).max(64);
        let prefetch = own.prefetch.or(channel.prefetch).unwrap_or(usual);
        let settings = Settings {
            concurrency,
            prefetch,
            retry: own.retry.clone().unwrap_or_else(|| channel.retry.clone()),
            timeout: own.timeout.or(channel.timeout),
            on_unhandled: own.on_unhandled.unwrap_or(channel.on_unhandled),
            order: own.order.unwrap_or(channel.order),
            lanes: own.lanes.unwrap_or(channel.lanes),
        };
        if concurrency == 0 || settings.retry.attempts == 0 {
            let message = "concurrency and retry.attempts are at least 1";
            return Err(Error::new(ErrorKind::Invalid, "subscribe", message));
        }
        let mut options = SubscribeOptions::broadcast(patterns)
            .with_prefetch(prefetch)
            .with_start(own.start.clone())
            .with_order(settings.order);
        options.group = group.cloned();
        options.lanes = settings.lanes;
        (options.buffer, options.on_full) = match own.buffer {
            Some((events, on_full)) => (Some(events), on_full),
            None if capabilities.buffer => (channel.buffer, channel.on_full),
            // What the channel says is for its publishes alone.
            None => (channel.buffer, OnFull::default()),
        };
        Ok((settings, options))
    }

    pub(crate) fn display_name(&self, group: Option<&Group>) -> String {
        let group = || group.map(ToString::to_string);
        self.name.clone().or_else(group).unwrap_or_else(|| "broadcast".to_owned())
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.handlers.iter().map(|handler| handler.event_type).collect();
        f.debug_struct("Consumer")
            .field("group", &self.group)
            .field("topics", &self.topics)
            .field("types", &types)
            .finish_non_exhaustive()
    }
}
