//! This library as a contender.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use trunkline_bus::{Consumer, EventBus};
use trunkline_core::{
    Broker, Data, Delivery, Error, ErrorKind, Event, Group, GroupSpec, Pattern, PublishOptions,
    Settlement, SubscribeOptions, Subscription, Topic, Unsettled,
};

use super::{Contender, Load, Log, Message, Outcome, PREFETCH};

/// How long leaving a group may take.
const LEAVE: Duration = Duration::from_secs(30);

/// How many deliveries are asked for at a time.
const AT_A_TIME: usize = 256;

/// A broker, and a bus over it.
#[derive(Debug)]
pub(super) struct Ours {
    broker: Arc<dyn Broker>,
    bus: EventBus,
    way: Way,
}

/// Which of this library's interfaces is used.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// A bare broker and a bare subscription.
    Broker,
    /// An event bus with a handler.
    Bus,
}

impl Ours {
    pub(super) async fn new(broker: impl Broker) -> Outcome<Self> {
        let broker: Arc<dyn Broker> = Arc::new(broker);
        let bus = EventBus::builder(Arc::clone(&broker)).start().await?;
        Ok(Self { broker, bus, way: Way::Broker })
    }

    /// The same broker by another interface.
    pub(super) fn by(&self, way: Way) -> Arc<Self> {
        Arc::new(Self { broker: Arc::clone(&self.broker), bus: self.bus.clone(), way })
    }

    async fn handle(&self, topic: &str, load: Load, log: Arc<Log>) -> Outcome {
        let inner = Arc::clone(&log);
        let handler = move |event: Event| {
            let log = Arc::clone(&inner);
            async move {
                log.take(event.data()?.as_slice());
                if !load.work.is_zero() {
                    tokio::time::sleep(load.work).await;
                }
                Ok::<(), Error>(())
            }
        };
        let consumer = Consumer::group(topic)
            .topics([topic])
            .prefetch(PREFETCH)
            .concurrency(load.concurrency)
            .on(handler);
        let member = self.bus.subscribe(consumer).await?;
        log.complete().await;
        // An event is in flight until its acknowledgement has landed.
        while member.metrics().in_flight > 0 {
            tokio::task::yield_now().await;
        }
        log.finish();
        Ok(member.unsubscribe(LEAVE).await?)
    }

    async fn take(&self, topic: &str, log: Arc<Log>) -> Outcome {
        let group = SubscribeOptions::group(Group::new(topic)?, [Pattern::new(topic)?]);
        let mut subscription = self.broker.subscribe(group.with_prefetch(PREFETCH)).await?;
        let mut acks = Acks::default();
        let mut deliveries = Vec::with_capacity(AT_A_TIME);
        while !(log.is_complete() && acks.waiting.is_empty()) {
            poll_fn(|cx| acks.poll(cx, subscription.as_mut(), &mut deliveries)).await?;
            for delivery in deliveries.drain(..) {
                log.take(delivery.event().data()?.as_slice());
                acks.asked.push(delivery.ack());
            }
            poll_fn(|cx| Poll::Ready(acks.start(cx))).await?;
        }
        log.finish();
        Ok(subscription.close(LEAVE).await?)
    }
}

/// Acknowledgements under way; most are ready at once.
#[derive(Default)]
struct Acks {
    asked: Vec<Settlement>,
    waiting: FuturesUnordered<Settlement>,
}

impl Acks {
    fn start(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        for mut ack in self.asked.drain(..) {
            match Pin::new(&mut ack).poll(cx) {
                Poll::Ready(outcome) => landed(outcome)?,
                Poll::Pending => self.waiting.push(ack),
            }
        }
        Ok(())
    }

    /// Ready when there are deliveries or when some acknowledgements have landed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        subscription: &mut dyn Subscription,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<(), Error>> {
        let mut some = false;
        while let Poll::Ready(Some(outcome)) = self.waiting.poll_next_unpin(cx) {
            landed(outcome)?;
            some = true;
        }
        match subscription.poll_deliveries(cx, AT_A_TIME, out) {
            Poll::Ready(Ok(false)) => Poll::Ready(Err(Error::new(
                ErrorKind::Closed,
                "consume",
                "the subscription ended by itself",
            ))),
            Poll::Ready(outcome) => Poll::Ready(outcome.map(|_| ())),
            Poll::Pending if some => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn landed(outcome: Result<(), Unsettled>) -> Result<(), Error> {
    outcome.map_err(|unsettled| unsettled.error)
}

impl Contender for Ours {
    type Message = Event;

    fn build(&self, topic: &str, message: Message) -> Outcome<Event> {
        let data = Data::raw(message.payload, Message::CONTENT_TYPE);
        let event = Event::from_data(Message::TYPE, Topic::new(topic)?, data);
        let event = event.id(message.id.as_str()).source(Message::SOURCE).key(message.key);
        Ok(event.attribute("time", message.time).build()?)
    }

    async fn open(&self, topic: &str) -> Outcome {
        let admin = self.broker.admin().ok_or("the broker has no admin")?;
        let spec = GroupSpec::new(Group::new(topic)?, [Pattern::new(topic)?]);
        Ok(admin.declare_group(spec).await?)
    }

    async fn publish(&self, event: &Event) -> Outcome {
        match self.way {
            Way::Bus => self.bus.publish_event(event).await?,
            Way::Broker => {
                let events = std::slice::from_ref(event);
                self.broker.publish(events, &PublishOptions::default()).await.into_result()?;
            }
        }
        Ok(())
    }

    async fn publish_batch(&self, batch: &[Event]) -> Outcome {
        let result = match self.way {
            Way::Bus => self.bus.publish_many(batch).await,
            Way::Broker => self.broker.publish(batch, &PublishOptions::default()).await,
        };
        Ok(result.into_result()?)
    }

    async fn consume(&self, topic: &str, load: Load, log: Arc<Log>) -> Outcome {
        match self.way {
            Way::Broker => self.take(topic, log).await,
            Way::Bus => self.handle(topic, load, log).await,
        }
    }

    async fn remove(&self, topic: &str) -> Outcome {
        let admin = self.broker.admin().ok_or("the broker has no admin")?;
        admin.delete_group(&Group::new(topic)?).await?;
        Ok(())
    }
}
