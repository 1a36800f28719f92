//! Typed events, buses and handlers that write down what they see.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use trunkline_bus::{Consumer, EventBus, EventBusBuilder};
use trunkline_core::{
    Broker, BrokerAdmin, Capabilities, DomainEvent, Event, Health, PublishOptions, Publishing,
    Result, SubscribeOptions, Subscription, Topic,
};

use crate::broker::{Subject, patience, quiet};
use crate::failure::{Check, Failure, ensure};

/// The payload of most properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) key: Option<String>,
    pub(crate) number: u64,
}

impl DomainEvent for Step {
    const TYPE: &'static str = "Step";
    const TOPIC: Topic = Topic::from_static("trunkline-conformance.steps");

    fn key(&self) -> Option<SmolStr> {
        self.key.as_deref().map(SmolStr::new)
    }
}

/// A step of a topic, perhaps with a key.
pub(crate) fn step(topic: &Topic, key: Option<&str>, number: u64) -> Result<Event, Failure> {
    let payload = Step { key: key.map(str::to_owned), number };
    Ok(Event::builder(payload).topic(topic.clone()).build()?)
}

/// Steps of one key.
pub(crate) fn steps(topic: &Topic, key: &str, numbers: Range<u64>) -> Result<Vec<Event>, Failure> {
    numbers.map(|number| step(topic, Some(key), number)).collect()
}

/// Steps of `keys` keys in turn: number n has the key `key-<n modulo keys>`.
pub(crate) fn spread_steps(
    topic: &Topic,
    keys: u64,
    numbers: Range<u64>,
) -> Result<Vec<Event>, Failure> {
    let of = |number| step(topic, Some(&format_smolstr!("key-{}", number % keys)), number);
    numbers.map(of).collect()
}

/// Publishes events that all have to be accepted.
pub(crate) async fn publish(bus: &EventBus, events: &[Event]) -> Check {
    Ok(bus.publish_many(events).await.into_result()?)
}

/// The hand of one process on the broker: to close it leaves the broker to the others.
#[derive(Debug)]
pub(crate) struct Process<B>(Arc<B>);

#[async_trait]
impl<B: Broker> Broker for Process<B> {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a> {
        self.0.publish(events, options)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        self.0.subscribe(options).await
    }

    async fn health(&self) -> Health {
        self.0.health().await
    }

    async fn close(&self, _deadline: Duration) -> Result<()> {
        Ok(())
    }

    fn admin(&self) -> Option<&dyn BrokerAdmin> {
        self.0.admin()
    }
}

impl<B: Broker> Subject<B> {
    /// A bus of a process of its own, to be started.
    pub(crate) fn builder(&self) -> EventBusBuilder {
        EventBus::builder(Process(Arc::clone(&self.broker)))
    }

    /// A bus of a process of its own.
    pub(crate) async fn bus(&self) -> Result<EventBus, Failure> {
        Ok(self.builder().start().await?)
    }

    /// A member of a group of this run on one topic, without handlers.
    pub(crate) fn consumer(&self, group: &str, topic: &Topic) -> Result<Consumer, Failure> {
        Ok(Consumer::group(self.group(group)?.as_str()).topics([topic.as_str()]))
    }

    /// A broadcast subscriber on one topic, without handlers.
    pub(crate) fn listener(&self, topic: &Topic) -> Consumer {
        Consumer::broadcast().topics([topic.as_str()])
    }
}

/// Where handlers write down what they see.
pub(crate) struct Log<T>(UnboundedSender<T>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Log<T> {
    pub(crate) fn note(&self, entry: T) {
        // The property may have ended: then nobody reads on.
        drop(self.0.send(entry));
    }
}

/// What handlers wrote down, in that order.
pub(crate) struct Seen<T>(UnboundedReceiver<T>);

pub(crate) fn log<T>() -> (Log<T>, Seen<T>) {
    let (log, seen) = unbounded_channel();
    (Log(log), Seen(seen))
}

impl<T: std::fmt::Debug> Seen<T> {
    /// The next entry; that it does not come soon is a failure.
    pub(crate) async fn next(&mut self) -> Result<T, Failure> {
        let limit = patience();
        match timeout(limit, self.0.recv()).await {
            Ok(Some(entry)) => Ok(entry),
            Ok(None) => Err(Failure::new("every handler is gone")),
            Err(_) => Err(Failure::new(format!("no handler ran within {limit:?}"))),
        }
    }

    /// The next `count` entries.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<T>, Failure> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let next = self.next().await;
            taken.push(next.map_err(|failure| {
                Failure::new(format!("{} of {count} came, and then: {failure}", taken.len()))
            })?);
        }
        Ok(taken)
    }

    /// Fails when anything is written within a moment.
    pub(crate) async fn nothing(&mut self) -> Check {
        self.nothing_for(quiet()).await
    }

    /// Fails when anything is written within `pause`.
    pub(crate) async fn nothing_for(&mut self, pause: Duration) -> Check {
        if let Ok(Some(entry)) = timeout(pause, self.0.recv()).await {
            ensure!(false, "a handler wrote {entry:?}, and none should run");
        }
        Ok(())
    }
}

/// The text that failing handlers fail with.
pub(crate) const NO_INK: &str = "no ink";

/// Fails as a handler does.
pub(crate) fn no_ink() -> Result<(), std::io::Error> {
    Err(std::io::Error::other(NO_INK))
}
