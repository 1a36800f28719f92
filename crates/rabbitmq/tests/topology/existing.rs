//! Exchanges and queues that others have made.

use std::time::Duration;

use lapin::ExchangeKind;
use trunkline_core::{
    Broker as _, BrokerAdmin as _, BrokerExt as _, DeadLetterFilter, DeadLetterVerdict, ErrorKind,
    Group, GroupSpec, Pattern, PublishOptions,
};
use trunkline_rabbitmq::{Declare, ExchangeType, RabbitMqBroker};

use crate::{Place, SOON, Taker, broadcast, connect, event, group, letter};

const LATER: Duration = Duration::from_millis(50);

/// An exchange `shop` with a queue `billing` for its orders.
async fn shop() -> Place {
    let place = Place::new().await;
    place.exchange("shop", ExchangeKind::Topic).await;
    place.queue("billing", &[]).await;
    place.bind("billing", "shop", "orders.#").await;
    place
}

async fn open(place: &Place, declare: Declare) -> RabbitMqBroker {
    let config = place.config().with_exchange("shop", ExchangeType::Topic);
    connect(config.with_declare(declare)).await
}

/// A group takes from its queue; what it retries and gives up comes back to that queue alone.
async fn retries_and_redrives(broker: &RabbitMqBroker, taker: &mut Taker, expected: u64) {
    let first = taker.expect(expected).await;
    first.retry(LATER, 1).await.unwrap();
    let again = taker.expect(expected).await;
    assert_eq!(again.attempts(), 1);
    again.reject(letter()).await.unwrap();
    let letters = broker.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    broker.settle_dead_letter(&letters[0].id, DeadLetterVerdict::Redrive).await.unwrap();
    taker.take(expected).await;
    taker.nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_declared_when_nothing_is_to_be() {
    let place = shop().await;
    let before = place.census().await;
    let broker = open(&place, Declare::Nothing).await;
    let mut billing = Taker::open(&broker, group("billing", "orders.#")).await;
    broker.publish_one(&event("orders.placed", 1)).await.unwrap();
    let first = billing.expect(1).await;
    first.retry(Duration::ZERO, 1).await.unwrap();
    let again = billing.expect(1).await;
    assert_eq!(again.attempts(), 1);

    let refused = again.reject(letter()).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Unsupported);
    let refused = refused.delivery.retry(LATER, 2).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Unsupported);
    refused.delivery.ack().await.unwrap();
    let later = PublishOptions::default().with_delay(LATER);
    let delayed = broker.publish(&[event("orders.placed", 2)], &later).await.into_result();
    assert_eq!(delayed.unwrap_err().kind(), ErrorKind::Unsupported);
    for options in [broadcast("orders.#"), group("billing", "orders.#").with_lanes()] {
        let Err(refused) = broker.subscribe(options).await else { panic!("it was taken") };
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    }
    let letters = broker.dead_letters(&DeadLetterFilter::default()).await;
    assert_eq!(letters.unwrap_err().kind(), ErrorKind::Unsupported);
    let known = broker.groups().await.unwrap();
    assert_eq!((known.len(), known[0].name.as_str(), known[0].members), (1, "billing", 1));

    billing.close().await;
    broker.close(SOON).await.unwrap();
    assert_eq!(place.census().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_to_be_there_and_is_not_is_named() {
    let place = shop().await;
    let config = place.config().with_exchange("nowhere", ExchangeType::Topic);
    let connected = RabbitMqBroker::connect(config.with_declare(Declare::Nothing)).await;
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::NotFound);
    for declare in [Declare::Nothing, Declare::Own] {
        let broker = open(&place, declare).await;
        let Err(error) = broker.subscribe(group("ghosts", "orders.#")).await else {
            panic!("there is no such queue")
        };
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(format!("{error:?}").contains("ghosts"), "{error:?}");
        broker.close(SOON).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_what_is_its_own_the_broker_delays_keeps_letters_and_broadcasts() {
    let place = shop().await;
    let broker = open(&place, Declare::Own).await;
    let mut billing = Taker::open(&broker, group("billing", "orders.#")).await;
    let mut listener = Taker::open(&broker, broadcast("orders.*")).await;
    broker.publish_one(&event("orders.placed", 1)).await.unwrap();
    listener.take(1).await;
    retries_and_redrives(&broker, &mut billing, 1).await;
    let later = PublishOptions::default().with_delay(LATER);
    broker.publish(&[event("orders.placed", 2)], &later).await.into_result().unwrap();
    billing.take(2).await;
    listener.take(2).await;
    billing.close().await;
    listener.close().await;
    broker.close(SOON).await.unwrap();

    let exchanges = place.list(&["list_exchanges", "name"]).await;
    let queues = place.list(&["list_queues", "name"]).await;
    let foreign = |name: &&String| !name.contains("..");
    assert_eq!(exchanges.iter().filter(foreign).collect::<Vec<_>>(), ["shop"]);
    assert_eq!(queues.iter().filter(foreign).collect::<Vec<_>>(), ["billing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_takes_from_the_queues_that_are_named_for_it() {
    let place = shop().await;
    for (queue, key) in [("old-a", "a.#"), ("old-b", "b.#")] {
        place.queue(queue, &[]).await;
        place.bind(queue, "shop", key).await;
    }
    let billing = Group::from_static("bills");
    let config = place.config().with_exchange("shop", ExchangeType::Topic);
    let queues = ["old-a", "old-b"].map(|queue| place.name(queue));
    let broker = connect(config.with_group_queues(billing.clone(), queues)).await;
    let spec = GroupSpec::new(billing.clone(), [Pattern::all()]);
    broker.declare_group(spec).await.unwrap();
    for (topic, number) in [("a.placed", 1), ("b.placed", 2)] {
        broker.publish_one(&event(topic, number)).await.unwrap();
    }
    let known = broker.groups().await.unwrap();
    assert_eq!((known.len(), known[0].lag), (1, 2));

    let mut bills = Taker::open(&broker, group("bills", "#")).await;
    let (one, other) = (bills.next().await, bills.next().await);
    for delivery in [one, other] {
        delivery.retry(LATER, 1).await.unwrap();
    }
    let mut back = vec![bills.next().await, bills.next().await];
    assert!(back.iter().all(|delivery| delivery.attempts() == 1));
    back.pop().expect("there were two").ack().await.unwrap();
    back.pop().expect("there was one").reject(letter()).await.unwrap();
    let letters = broker.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!((letters.len(), letters[0].group.as_ref()), (1, Some(&billing)));
    broker.settle_dead_letter(&letters[0].id, DeadLetterVerdict::Redrive).await.unwrap();
    bills.next().await.ack().await.unwrap();
    bills.nothing().await;

    let deleted = broker.delete_group(&billing).await.unwrap_err();
    assert_eq!(deleted.kind(), ErrorKind::Unsupported);
    let Err(refused) = broker.subscribe(group("bills", "#").with_lanes()).await else {
        panic!("their queues know no lanes")
    };
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    bills.close().await;
    broker.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_others_that_vanishes_is_waited_for() {
    let place = shop().await;
    let broker = open(&place, Declare::Nothing).await;
    let mut billing = Taker::open(&broker, group("billing", "orders.#")).await;
    place.delete("billing").await;
    billing.nothing().await;
    place.queue("billing", &[]).await;
    place.bind("billing", "shop", "orders.#").await;
    broker.publish_one(&event("orders.placed", 1)).await.unwrap();
    billing.take(1).await;
    billing.close().await;
    broker.close(SOON).await.unwrap();
}
