//! Each type of exchange, with everything a program does with it.

use std::time::Duration;

use trunkline_core::{
    Broker as _, BrokerAdmin as _, BrokerExt as _, DeadLetterFilter, DeadLetterVerdict, ErrorKind,
    PublishOptions,
};
use trunkline_rabbitmq::{ExchangeType, RabbitMqBroker};

use crate::{Place, SOON, Taker, broadcast, connect, event, group, letter};

/// A group and a broadcast subscriber get their topic and no other, once, and late, failed and redriven
/// events too.
async fn serves(kind: ExchangeType, name: &str) {
    let place = Place::new().await;
    let broker = connect(place.config().with_exchange("events", kind)).await;
    assert_eq!(place.list(&["list_exchanges", "name", "type"]).await[0], format!("events\t{name}"));
    let mut billing = Taker::open(&broker, group("billing", "orders.placed")).await;
    let mut audit = Taker::open(&broker, group("audit", "users.new")).await;
    let mut listener = Taker::open(&broker, broadcast("orders.placed")).await;

    broker.publish_one(&event("users.new", 1)).await.unwrap();
    broker.publish_one(&event("orders.placed", 2)).await.unwrap();
    audit.take(1).await;
    billing.take(2).await;
    listener.take(2).await;

    fails_and_comes_back(&broker, &mut billing, &mut listener).await;
    audit.nothing().await;
    listener.nothing().await;
    for taker in [billing, audit, listener] {
        taker.close().await;
    }
    broker.close(SOON).await.unwrap();
}

/// An event that is published late, retried late, given up and redriven.
async fn fails_and_comes_back(broker: &RabbitMqBroker, billing: &mut Taker, listener: &mut Taker) {
    let later = PublishOptions::default().with_delay(Duration::from_millis(50));
    let delayed = broker.publish(&[event("orders.placed", 3)], &later).await;
    delayed.into_result().unwrap();
    listener.take(3).await;
    let first = billing.expect(3).await;
    first.retry(Duration::from_millis(50), 1).await.unwrap();
    let again = billing.expect(3).await;
    assert_eq!(again.attempts(), 1);
    again.reject(letter()).await.unwrap();

    let letters = broker.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    broker.settle_dead_letter(&letters[0].id, DeadLetterVerdict::Redrive).await.unwrap();
    billing.take(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_exchange_serves_groups_and_broadcast() {
    serves(ExchangeType::Topic, "topic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_exchange_serves_groups_and_broadcast() {
    serves(ExchangeType::Direct, "direct").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fanout_exchange_serves_groups_and_broadcast() {
    serves(ExchangeType::Fanout, "fanout").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_headers_exchange_serves_groups_and_broadcast() {
    serves(ExchangeType::Headers, "headers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_that_the_exchange_cannot_match_is_refused_by_name() {
    let place = Place::new().await;
    for kind in [ExchangeType::Direct, ExchangeType::Headers] {
        let exchange = format!("{kind:?}").to_lowercase();
        let broker = connect(place.config().with_exchange(exchange, kind)).await;
        for options in [group("g", "orders.*"), broadcast("orders.#")] {
            let Err(error) = broker.subscribe(options).await else { panic!("{kind:?} took it") };
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("needs an exchange of type topic"), "{error}");
        }
        broker.close(SOON).await.unwrap();
    }
}
