//! A topic of orders on a server, and a group that takes them: for what is particular to Kafka.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::timeout;
use trunkline_core::{
    Broker as _, Delivery, Event, EventId, Group, Pattern, PublishOptions, SubscribeOptions,
    Subscription, SubscriptionExt as _, Topic,
};
use trunkline_kafka::KafkaBroker;
use trunkline_launcher::{Kind, Server};

/// One server for all of them; it ends with the test binary.
pub(crate) static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(Kind::Kafka).unwrap());

/// Longer than anything here needs.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const TOPIC: Topic = Topic::from_static("orders");
pub(crate) const GROUP: Group = Group::from_static("g");

/// A prefix of its own on the server.
pub(crate) fn prefix() -> String {
    format!("{}.", EventId::generate())
}

pub(crate) async fn join(broker: &KafkaBroker, prefetch: usize) -> Box<dyn Subscription> {
    let options = SubscribeOptions::group(GROUP, [Pattern::new(TOPIC.as_str()).unwrap()]);
    broker.subscribe(options.with_prefetch(prefetch)).await.unwrap()
}

pub(crate) async fn publish(broker: &KafkaBroker, events: &[Event]) {
    let result = broker.publish(events, &PublishOptions::default()).await;
    result.into_result().unwrap();
}

/// The number that an event is.
pub(crate) fn number(delivery: &Delivery) -> usize {
    let data = delivery.event().data().unwrap();
    std::str::from_utf8(data.as_slice()).unwrap().parse().unwrap()
}

pub(crate) async fn next(member: &mut Box<dyn Subscription>) -> Delivery {
    let next = timeout(SOON, member.next()).await.expect("a delivery comes soon");
    next.unwrap().expect("the subscription goes on")
}

pub(crate) async fn ack(delivery: Delivery) {
    let acked = timeout(SOON, delivery.ack()).await.expect("an ack ends soon");
    acked.map_err(|unsettled| unsettled.error).unwrap();
}
