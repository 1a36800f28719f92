//! The type and the arguments of the queues of groups.

use std::time::Duration;

use trunkline_core::{
    Broker as _, BrokerExt as _, Durability, ErrorKind, PartitionRules, PublishOptions,
    SubscriptionExt as _,
};
use trunkline_rabbitmq::{QueueType, RabbitMqBroker};

use crate::{A_WHILE, Place, SOON, Taker, connect, event, group, number};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classic_queues_serve_a_group_and_promise_less() {
    let place = Place::new().await;
    let broker = connect(place.config().with_queue_type(QueueType::Classic)).await;
    assert_eq!(broker.capabilities().durability, Durability::Server);
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    let types = place.list(&["list_queues", "name", "type"]).await;
    let partition = types.iter().find(|line| line.starts_with("g..0")).unwrap();
    assert!(partition.ends_with("rabbit_classic_queue") || partition.ends_with("classic"));
    for number in 0..20 {
        broker.publish_one(&event("orders", number)).await.unwrap();
    }
    for number in 0..20 {
        member.take(number).await;
    }
    member.close().await;
    broker.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_loses_nothing_that_was_accepted() {
    let place = Place::new().await;
    let broker =
        connect(place.config().with_partitions(1).with_queue_argument("x-max-length", 5)).await;
    // The group is made, and nobody takes from it.
    Taker::open(&broker, group("g", "orders")).await.close().await;
    let arguments = place.list(&["list_queues", "name", "arguments"]).await;
    let queue = arguments.iter().find(|line| line.starts_with("g..0")).unwrap();
    assert!(queue.contains("{\"x-max-length\",5}"), "{queue}");
    assert!(queue.contains("{\"x-overflow\",\"reject-publish\"}"), "{queue}");

    // A group beside it, with room.
    let open = connect(place.config().with_partitions(1)).await;
    let mut free = Taker::open(&open, group("free", "orders")).await;

    let soon = PublishOptions::default().with_timeout(Duration::from_secs(3));
    let mut accepted = 0;
    let error = loop {
        let published = broker.publish(&[event("orders", accepted)], &soon).await;
        match published.into_result() {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 100, "the queue takes everything");
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(accepted >= 5, "{accepted}");
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    for number in 0..accepted {
        member.take(number).await;
    }
    member.close().await;
    let copies = copies_of(accepted, &mut free).await;
    assert!((1..10).contains(&copies), "{copies} copies for one event that was refused for 3 s");
    free.close().await;
    open.close(SOON).await.unwrap();
    broker.close(SOON).await.unwrap();
}

/// How often an event has come that was not accepted; each event before it comes once.
async fn copies_of(refused: u64, taker: &mut Taker) -> usize {
    for number in 0..refused {
        taker.take(number).await;
    }
    let mut copies = 0;
    while let Ok(next) = tokio::time::timeout(A_WHILE, taker.0.next()).await {
        let delivery = next.unwrap().unwrap();
        assert_eq!(number(&delivery), refused);
        delivery.ack().await.unwrap();
        copies += 1;
    }
    copies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_would_drop_events_are_refused_before_anything_is_declared() {
    let place = Place::new().await;
    for (name, value) in [("x-overflow", "drop-head"), ("x-delivery-limit", "3")] {
        let config = place.config().with_queue_argument(name, value);
        let error = RabbitMqBroker::connect(config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(place.list(&["list_exchanges", "name"]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_says_how_many_queues_a_group_of_its_topics_gets() {
    let place = Place::new().await;
    let mut rules = PartitionRules::default();
    rules.add(["few.#".parse().unwrap()], Some(1));
    let broker = connect(place.config().with_partition_rules(rules)).await;
    for (name, topic, partitions) in [("one", "few.a", 1), ("two", "orders", 2)] {
        Taker::open(&broker, group(name, topic)).await.close().await;
        let queues = place.list(&["list_queues", "name"]).await;
        let of_group = |line: &&String| {
            let rest = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(".."));
            rest.is_some_and(|rest| rest.parse::<u32>().is_ok())
        };
        assert_eq!(queues.iter().filter(of_group).count(), partitions, "{queues:?}");
    }
    broker.close(SOON).await.unwrap();
}
