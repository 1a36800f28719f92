//! What is particular to Kafka, on a real server: where records are, how long a consumer may be silent,
//! and logs that others delete.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod deleted;
mod placement;
mod polling;

use std::sync::LazyLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::time::timeout;
use trunkline_core::{
    Broker as _, Data, Delivery, Event, EventId, Group, Pattern, PublishOptions, SubscribeOptions,
    Subscription, SubscriptionExt as _, Topic,
};
use trunkline_kafka::{KafkaBroker, KafkaConfig};
use trunkline_launcher::{Kind, Server};

/// One server for all of them; it ends with the test binary.
static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(Kind::Kafka).unwrap());

/// Longer than anything here needs.
const SOON: Duration = Duration::from_secs(30);
const PARTITIONS: u32 = 6;
const TOPIC: Topic = Topic::from_static("orders");
const GROUP: Group = Group::from_static("g");

/// A prefix of its own on the server.
fn prefix() -> String {
    format!("{}.", EventId::generate())
}

fn config(prefix: &str) -> KafkaConfig {
    KafkaConfig::new(&SERVER.url())
        .unwrap()
        .with_prefix(prefix)
        .unwrap()
        .with_partitions(PARTITIONS)
        .with_replication(1)
        .with_session_timeout(Duration::from_secs(3), Duration::from_millis(150))
        .with_drain_timeout(Duration::from_secs(3))
}

async fn connect(config: &KafkaConfig) -> KafkaBroker {
    KafkaBroker::connect(config.clone()).await.unwrap()
}

/// The plain driver's settings.
fn plain() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", SERVER.url().replace("kafka://", ""));
    client
}

async fn join(broker: &KafkaBroker, prefetch: usize) -> Box<dyn Subscription> {
    let options = SubscribeOptions::group(GROUP, [Pattern::new(TOPIC.as_str()).unwrap()]);
    broker.subscribe(options.with_prefetch(prefetch)).await.unwrap()
}

fn event(key: Option<&str>, number: usize) -> Event {
    let draft = Event::from_data("t", TOPIC, Data::json(number.to_string()));
    match key {
        Some(key) => draft.key(key).build().unwrap(),
        None => draft.build().unwrap(),
    }
}

async fn publish(broker: &KafkaBroker, events: &[Event]) {
    let result = broker.publish(events, &PublishOptions::default()).await;
    result.into_result().unwrap();
}

fn number(delivery: &Delivery) -> usize {
    let data = delivery.event().data().unwrap();
    std::str::from_utf8(data.as_slice()).unwrap().parse().unwrap()
}

async fn next(member: &mut Box<dyn Subscription>) -> Delivery {
    let next = timeout(SOON, member.next()).await.expect("a delivery comes soon");
    next.unwrap().expect("the subscription goes on")
}

async fn ack(delivery: Delivery) {
    let acked = timeout(SOON, delivery.ack()).await.expect("an ack ends soon");
    acked.map_err(|unsettled| unsettled.error).unwrap();
}
