//! What publishers meet when a buffer is full.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test where it panics")]

use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{
    Broker, BrokerExt as _, Data, ErrorKind, Event, Group, OnFull, Pattern, PublishOptions,
    SubscribeOptions, SubscriptionExt as _, Topic,
};
use trunkline_memory::{MemoryBroker, MemoryConfig};

const ORDERS: Topic = Topic::from_static("orders");

fn event(number: u32) -> Event {
    Event::from_data("Order", ORDERS, Data::json(number.to_string())).build().unwrap()
}

fn keyed(number: u32) -> Event {
    let draft = Event::from_data("Order", ORDERS, Data::json(number.to_string()));
    draft.key("ann").build().unwrap()
}

fn number_of(event: &Event) -> String {
    String::from_utf8(event.data().unwrap().as_slice().to_vec()).unwrap()
}

fn to_group(buffer: usize) -> SubscribeOptions {
    SubscribeOptions::group(Group::from_static("billing"), [Pattern::from(ORDERS)])
        .with_buffer(buffer, OnFull::Block)
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_one_time_limit_in_all() {
    let limit = Duration::from_secs(3);
    let broker = MemoryBroker::new(MemoryConfig::default().with_publish_timeout(limit));
    let _stuck = broker.subscribe(to_group(1)).await.unwrap();
    let events: Vec<Event> = (0..50).map(event).collect();
    let start = Instant::now();
    let result = broker.publish(&events, &PublishOptions::default()).await;
    assert!(start.elapsed() < limit * 2, "{:?}", start.elapsed());
    assert_eq!(result.failures().len(), 49);
    assert!(result.failures().all(|(_, error)| error.kind() == ErrorKind::Full));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_goes_on_when_the_subscriber_it_waits_for_leaves() {
    let broker = MemoryBroker::default();
    let mut group = broker.subscribe(to_group(10)).await.unwrap();
    let slow = SubscribeOptions::broadcast([Pattern::all()]).with_buffer(1, OnFull::Block);
    let slow = broker.subscribe(slow).await.unwrap();
    broker.publish_one(&event(1)).await.unwrap();
    let publisher = broker.clone();
    let waiting = tokio::spawn(async move { publisher.publish_one(&event(2)).await });
    // Paused time moves only when every task waits: the publisher does by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    drop(slow);
    waiting.await.unwrap().unwrap();
    for expected in ["1", "2"] {
        let delivery = group.next().await.unwrap().unwrap();
        assert_eq!(number_of(delivery.event()), expected);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn drop_oldest_drops_the_oldest_of_a_busy_key() {
    let broker = MemoryBroker::default();
    let options = SubscribeOptions::broadcast([Pattern::all()])
        .with_prefetch(4)
        .with_buffer(3, OnFull::DropOldest);
    let mut subscription = broker.subscribe(options).await.unwrap();
    broker.publish_one(&keyed(0)).await.unwrap();
    let running = subscription.next().await.unwrap().unwrap();
    for number in 1..=3 {
        broker.publish_one(&keyed(number)).await.unwrap();
    }
    // The key is busy: what has arrived is now waiting beside it.
    let polled = tokio::time::timeout(Duration::from_millis(20), subscription.next()).await;
    assert!(polled.is_err(), "a key with as much out as it may have gives no more");
    for number in 4..=6 {
        broker.publish_one(&keyed(number)).await.unwrap();
    }
    running.ack().await.unwrap();
    for expected in ["4", "5", "6"] {
        let delivery = subscription.next().await.unwrap().unwrap();
        assert_eq!(number_of(delivery.event()), expected);
        delivery.ack().await.unwrap();
    }
}
