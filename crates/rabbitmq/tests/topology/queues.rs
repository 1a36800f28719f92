//! The type and the arguments of the queues of groups.

use std::time::Duration;

use trunkline_core::{
    BatchResult, Broker as _, BrokerExt as _, Durability, ErrorKind, Event, PartitionRules,
    PublishOptions, SubscriptionExt as _, partition_of,
};
use trunkline_rabbitmq::{QueueType, RabbitMqBroker};

use crate::{A_WHILE, Place, SOON, Taker, connect, event, group, keyed, number};

/// How long a publish is refused: as long as a busy machine may need for all that is accepted before.
const LIMIT: Duration = Duration::from_secs(10);

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

    let soon = PublishOptions::default().with_timeout(LIMIT);
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
    assert!(copies < 20, "{copies} copies for one event that was refused for {LIMIT:?}");
    free.close().await;
    open.close(SOON).await.unwrap();
    broker.close(SOON).await.unwrap();
}

/// How often an event has come that was not accepted; each event before it comes once.
async fn copies_of(refused: u64, taker: &mut Taker) -> usize {
    for number in 0..refused {
        taker.take(number).await;
    }
    // The first is certain; of the others, which may be slow, a few are enough.
    taker.take(refused).await;
    let mut copies = 1;
    while let Ok(next) = tokio::time::timeout(A_WHILE, taker.0.next()).await {
        let delivery = next.unwrap().unwrap();
        assert_eq!(number(&delivery), refused);
        delivery.ack().await.unwrap();
        copies += 1;
    }
    copies
}

/// Why each event of these numbers was not accepted, and none where it was.
fn failures(result: &BatchResult, numbers: impl Iterator<Item = u64>) -> Vec<Option<ErrorKind>> {
    let kind = |number| Some(result.error(usize::try_from(number).unwrap())?.kind());
    numbers.map(kind).collect()
}

/// Two keys whose queues are not the same, of a group with two.
fn keys() -> [String; 2] {
    let of = |partition| {
        let mut keys = (0..).map(|at| format!("key-{at}"));
        keys.find(|key| partition_of(key, 16) % 2 == partition).unwrap()
    };
    [of(0), of(1)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_queue_refuses_within_a_batch_aborts_later_events_of_its_key_alone() {
    let place = Place::new().await;
    let broker = connect(place.config().with_queue_argument("x-max-length", 5)).await;
    Taker::open(&broker, group("g", "orders")).await.close().await;
    let [crowded, calm] = keys();
    let is_calm = |number: &u64| number % 10 == 9;
    let numbers = || 0..40;
    let to_event =
        |number| keyed("orders", if is_calm(&number) { &calm } else { &crowded }, number);
    let batch: Vec<Event> = numbers().map(to_event).collect();
    let soon = PublishOptions::default().with_timeout(LIMIT);
    let result = broker.publish(&batch, &soon).await;

    assert_eq!(failures(&result, numbers().filter(is_calm)), [None; 4]);
    let outcomes = failures(&result, numbers().filter(|number| !is_calm(number)));
    let accepted = outcomes.iter().take_while(|outcome| outcome.is_none()).count();
    assert!((5..outcomes.len() - 1).contains(&accepted), "{outcomes:?}");
    assert_eq!(outcomes[accepted], Some(ErrorKind::Full), "{outcomes:?}");
    let mut later = outcomes[accepted + 1..].iter();
    assert!(later.all(|outcome| *outcome == Some(ErrorKind::Aborted)), "{outcomes:?}");

    let mut member = Taker::open(&broker, group("g", "orders")).await;
    let mut came = Vec::new();
    for _ in 0..accepted + 4 {
        let delivery = member.next().await;
        came.push(number(&delivery));
        delivery.ack().await.unwrap();
    }
    let (of_calm, of_crowded): (Vec<u64>, Vec<u64>) = came.into_iter().partition(is_calm);
    assert!(of_calm.into_iter().eq(numbers().filter(is_calm)));
    let expected = numbers().filter(|number| !is_calm(number)).take(accepted);
    assert!(of_crowded.into_iter().eq(expected));
    member.nothing().await;
    member.close().await;
    broker.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_within_a_batch_aborts_later_events_of_its_topic_and_key_alone() {
    let place = Place::new().await;
    let broker = connect(place.config()).await;
    let mut member = Taker::open(&broker, group("g", "orders")).await;
    let batch = [
        keyed("orders", "k", 0),
        keyed("nobody", "k", 1),
        keyed("orders", "k", 2),
        keyed("nobody", "k", 3),
        keyed("nobody", "j", 4),
        keyed("orders", "k", 5),
    ];
    let result = broker.publish(&batch, &PublishOptions::default()).await;
    let (returned, aborted) = (Some(ErrorKind::Unroutable), Some(ErrorKind::Aborted));
    assert_eq!(failures(&result, 0..6), [None, returned, None, aborted, returned, None]);
    for number in [0, 2, 5] {
        member.take(number).await;
    }
    member.nothing().await;
    member.close().await;
    broker.close(SOON).await.unwrap();
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
