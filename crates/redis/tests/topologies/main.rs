//! Servers that have replicas: the broker follows the primary, which sentinels or a cluster name; and one
//! that asks for TLS.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod nodes;
mod secure;
mod sentinel;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use trunkline_core::{
    Broker as _, BrokerExt as _, Data, DeadLetter, DeadLetterFilter, Delivery, Event, FailureCause,
    Group, Pattern, PublishOptions, SubscribeOptions, Subscription, SubscriptionExt as _, Topic,
};
use trunkline_redis::{RedisBroker, RedisConfig};

/// Longer than a failover takes here.
const SOON: Duration = Duration::from_secs(20);

fn config(url: &str) -> RedisConfig {
    RedisConfig::new(url)
        .unwrap()
        .with_prefix("shop-")
        .with_lease_ttl(Duration::from_secs(1))
        .with_discovery_interval(Duration::from_millis(200))
}

async fn connect(url: &str) -> RedisBroker {
    RedisBroker::connect(config(url)).await.unwrap()
}

fn event(number: u64) -> Event {
    let draft = Event::from_data("t", Topic::from_static("orders"), Data::json(number.to_string()));
    draft.key(format!("k{}", number % 20).as_str()).build().unwrap()
}

async fn subscribe(broker: &RedisBroker) -> Taker {
    let patterns = [Pattern::new("orders").unwrap()];
    let options = SubscribeOptions::group(Group::from_static("g"), patterns);
    Taker::new(broker.subscribe(options).await.unwrap())
}

fn number(delivery: &Delivery) -> u64 {
    let data = delivery.event().data().unwrap();
    std::str::from_utf8(data.as_slice()).unwrap().parse().unwrap()
}

async fn next(subscription: &mut Box<dyn Subscription>) -> Delivery {
    subscription.next().await.unwrap().expect("the subscription goes on")
}

async fn soon(group: &mut Taker) -> Delivery {
    let next = tokio::time::timeout(SOON, next(&mut group.subscription)).await;
    next.expect("a delivery comes soon")
}

/// What a broker is for, once through; batches with a key twice are transactions.
async fn round_trip(broker: &RedisBroker) {
    let mut group = subscribe(broker).await;
    let patterns = [Pattern::new("orders").unwrap()];
    let all = broker.subscribe(SubscribeOptions::broadcast(patterns)).await.unwrap();
    let mut all = Taker::new(all);
    let events: Vec<_> = (0..100).map(event).collect();
    broker.publish(&events, &PublishOptions::default()).await.into_result().unwrap();
    group.take(0..100).await;
    all.take(0..100).await;

    let later = PublishOptions::default().with_delay(Duration::from_millis(300));
    let begun = Instant::now();
    broker.publish(&[event(100)], &later).await.into_result().unwrap();
    let delivery = soon(&mut group).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let retried = Instant::now();
    delivery.retry(Duration::from_millis(200), 2).await.unwrap();
    let delivery = soon(&mut group).await;
    assert_eq!((number(&delivery), delivery.attempts()), (100, 2));
    assert!(retried.elapsed() >= Duration::from_millis(200));
    delivery.reject(letter()).await.unwrap();

    let admin = broker.admin().unwrap();
    let letters = admin.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].group, Some(Group::from_static("g")));
    let verdict = trunkline_core::DeadLetterVerdict::Redrive;
    admin.settle_dead_letter(&letters[0].id, verdict).await.unwrap();
    let delivery = soon(&mut group).await;
    assert_eq!(number(&delivery), 100);
    delivery.ack().await.unwrap();
    group.subscription.close(SOON).await.unwrap();
}

/// A subscription, and which numbers it has brought: those of several keys come in any order.
struct Taker {
    subscription: Box<dyn Subscription>,
    seen: HashSet<u64>,
}

impl Taker {
    fn new(subscription: Box<dyn Subscription>) -> Self {
        Self { subscription, seen: HashSet::new() }
    }

    /// Takes until each of these numbers has come, whatever comes twice or beside them.
    async fn take(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let mut missing: HashSet<u64> = numbers.into_iter().collect();
        missing.retain(|number| !self.seen.contains(number));
        while !missing.is_empty() {
            let next = tokio::time::timeout(SOON, next(&mut self.subscription)).await;
            let delivery = next.unwrap_or_else(|_| panic!("these do not come: {missing:?}"));
            missing.remove(&number(&delivery));
            self.seen.insert(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
}

/// Publishes numbers one after the other until it is over and a hundred more were accepted; returns
/// what was accepted.
async fn publish_until(broker: &RedisBroker, from: u64, over: &AtomicBool) -> Vec<u64> {
    let mut accepted = Vec::new();
    let mut left = 100;
    let deadline = Instant::now() + SOON;
    for number in from.. {
        let is_over = over.load(Ordering::Relaxed);
        let published = broker.publish_one(&event(number)).await;
        if published.is_ok() {
            accepted.push(number);
            left -= u32::from(is_over);
        }
        if left == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{} accepted, then {published:?}", accepted.len());
    }
    accepted
}

fn letter() -> DeadLetter {
    let now = jiff::Timestamp::now();
    DeadLetter {
        cause: FailureCause::Failed,
        attempts: 2,
        first_failure: now,
        last_failure: now,
        error_kind: "test".to_owned(),
        error_text: "no good".to_owned(),
    }
}
