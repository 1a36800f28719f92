//! A channel bounds what is published and not answered yet.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test where it panics")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use trunkline_bus::{Channel, EventBus};
use trunkline_core::{
    BatchResult, Broker, Capabilities, Data, Durability, ErrorKind, Event, Health, OnFull, Pattern,
    PublishOptions, Publishing, Result, SubscribeOptions, Subscription, Topic,
};

/// A broker whose server answers one publish for each permit.
#[derive(Debug)]
struct SlowServer {
    capabilities: Capabilities,
    answers: Arc<Semaphore>,
}

#[async_trait]
impl Broker for SlowServer {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn publish<'a>(&'a self, _: &'a [Event], _: &'a PublishOptions) -> Publishing<'a> {
        Publishing::waiting(async {
            self.answers.acquire().await.unwrap().forget();
            BatchResult::accepted()
        })
    }

    async fn subscribe(&self, _: SubscribeOptions) -> Result<Box<dyn Subscription>> {
        unreachable!("nobody subscribes here")
    }

    async fn health(&self) -> Health {
        Health::up()
    }

    async fn close(&self, _: Duration) -> Result<()> {
        Ok(())
    }
}

async fn bus(on_full: OnFull) -> (EventBus, Arc<Semaphore>) {
    let answers = Arc::new(Semaphore::new(0));
    let capabilities = Capabilities::minimal("slow", Durability::Server);
    let mut channel = Channel::new("orders", ["orders.#".parse::<Pattern>().unwrap()]);
    channel.unconfirmed = Some(2);
    channel.on_full = on_full;
    let server = SlowServer { capabilities, answers: Arc::clone(&answers) };
    let bus = EventBus::builder(server)
        .channel(channel)
        .publish_timeout(Duration::from_secs(1))
        .start()
        .await
        .unwrap();
    (bus, answers)
}

fn event(topic: &'static str) -> Event {
    Event::from_data("Tested", Topic::from_static(topic), Data::json("1")).build().unwrap()
}

/// Starts a publish that the server has not answered yet.
async fn start(bus: &EventBus, topic: &'static str) -> tokio::task::JoinHandle<Result<()>> {
    let bus = bus.clone();
    let publishing = tokio::spawn(async move { bus.publish_event(&event(topic)).await });
    tokio::task::yield_now().await;
    publishing
}

#[tokio::test(start_paused = true)]
async fn a_publish_beyond_the_bound_waits_for_an_answer_and_is_then_full() {
    let (bus, answers) = bus(OnFull::Block).await;
    let first = start(&bus, "orders.placed").await;
    let _second = start(&bus, "orders.placed").await;
    let began = tokio::time::Instant::now();
    let error = bus.publish_event(&event("orders.paid")).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Full, Duration::from_secs(1)));
    assert_eq!(error.context("buffer_size"), Some("2"), "{error}");

    let waiting = start(&bus, "orders.paid").await;
    answers.add_permits(2);
    first.await.unwrap().unwrap();
    answers.add_permits(1);
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_channel_may_refuse_at_once() {
    let (bus, _answers) = bus(OnFull::Error).await;
    let _two = [start(&bus, "orders.placed").await, start(&bus, "orders.placed").await];
    let began = tokio::time::Instant::now();
    let error = bus.publish_event(&event("orders.paid")).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Full, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn other_topics_have_room_and_a_batch_above_the_bound_goes_through_alone() {
    let (bus, answers) = bus(OnFull::Error).await;
    let two = [start(&bus, "orders.placed").await, start(&bus, "orders.placed").await];
    let other = start(&bus, "payments").await;
    let batch: Vec<_> = (0..5).map(|_| event("orders.placed")).collect();
    let refused = bus.publish_many(&batch).await;
    assert_eq!(refused.failures().len(), 5);
    answers.add_permits(4);
    for publishing in two {
        publishing.await.unwrap().unwrap();
    }
    other.await.unwrap().unwrap();
    assert!(bus.publish_many(&batch).await.is_ok());
}
