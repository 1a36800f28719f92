//! How long a consumer may go without a poll: `max.poll.interval.ms`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use trunkline_core::{Broker as _, Delivery, ErrorKind, HealthStatus, SubscriptionExt as _};
use trunkline_kafka::{KafkaBroker, KafkaConfig};

use super::{SOON, ack, config, connect, event, join, next, number, prefix, publish};

/// As short as the server allows.
const INTERVAL: Duration = Duration::from_secs(6);

fn impatient(prefix: &str) -> KafkaConfig {
    let millis = INTERVAL.as_millis().to_string();
    config(prefix).with_property("max.poll.interval.ms", millis).unwrap()
}

async fn fact(broker: &KafkaBroker, name: &str) -> u64 {
    let facts = broker.health().await.facts;
    facts.iter().find(|(known, _)| known == name).unwrap().1.parse().unwrap()
}

async fn until(broker: &KafkaBroker, wanted: HealthStatus) {
    let deadline = Instant::now() + SOON;
    loop {
        let health = broker.health().await;
        if health.status == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "never {wanted:?}: {health:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_interval_that_a_drain_may_exceed_is_refused() {
    let config = impatient(&prefix()).with_drain_timeout(INTERVAL);
    let error = KafkaBroker::connect(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("max.poll.interval.ms"), "{error}");
}

/// The polling goes on without the handlers, so that they cannot cost the member its partitions.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_stuck_for_longer_keeps_its_partitions() {
    const EVENTS: usize = 4_000;
    let prefix = prefix();
    let (ours, theirs) = (connect(&impatient(&prefix)).await, connect(&impatient(&prefix)).await);
    let (mut stuck, mut other) = (join(&ours, 10).await, join(&theirs, 10).await);
    // More than a member reads ahead: it has to stop reading, and not to stop polling.
    let events: Vec<_> = (0..EVENTS).map(|at| event(Some(&format!("k{}", at % 40)), at)).collect();
    publish(&ours, &events).await;
    let mut held: Vec<Delivery> = Vec::new();
    while held.len() < 10 {
        held.push(next(&mut stuck).await);
    }
    let begun = Instant::now();
    let mut seen = BTreeSet::new();
    while begun.elapsed() < INTERVAL + Duration::from_secs(3) {
        if let Ok(delivery) = timeout(Duration::from_millis(100), other.next()).await {
            let delivery = delivery.unwrap().unwrap();
            assert!(seen.insert(number(&delivery)), "{} came twice", number(&delivery));
            ack(delivery).await;
        }
        assert_eq!(ours.health().await.status, HealthStatus::Up);
    }
    assert!(!seen.is_empty(), "the other member has no partition");
    assert!(fact(&ours, "last_poll_ms").await < 1_000);
    assert_eq!(fact(&ours, "missed_polls").await, 0);
    for delivery in held {
        assert!(seen.insert(number(&delivery)), "{} was given to both", number(&delivery));
        ack(delivery).await;
    }
    while seen.len() < EVENTS {
        let delivery = next(&mut stuck).await;
        assert!(seen.insert(number(&delivery)), "{} came twice", number(&delivery));
        ack(delivery).await;
    }
    for broker in [ours, theirs] {
        broker.close(SOON).await.unwrap();
    }
}

/// Wakes its reader only after a long time, on the thread that wakes it.
struct Slow {
    was_slow: AtomicBool,
}

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        if !self.was_slow.swap(true, Ordering::AcqRel) {
            std::thread::sleep(INTERVAL + Duration::from_secs(3));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_not_polled_in_time_says_so_and_comes_back() {
    let prefix = prefix();
    let broker = connect(&impatient(&prefix)).await;
    let mut member = join(&broker, 10).await;
    // Whatever wakes the subscriber does so on the polling thread: here it stands still.
    let slow = Waker::from(Arc::new(Slow { was_slow: AtomicBool::new(false) }));
    let mut out = Vec::new();
    let polled = member.poll_deliveries(&mut Context::from_waker(&slow), 10, &mut out);
    assert!(matches!(polled, Poll::Pending));
    publish(&broker, &[event(Some("k"), 0)]).await;
    until(&broker, HealthStatus::Degraded).await;
    assert!(fact(&broker, "last_poll_ms").await > 0);
    until(&broker, HealthStatus::Up).await;
    assert_eq!(fact(&broker, "missed_polls").await, 1);
    // It is a member again.
    let delivery = next(&mut member).await;
    assert_eq!(number(&delivery), 0);
    ack(delivery).await;
    publish(&broker, &[event(Some("k"), 1)]).await;
    let delivery = next(&mut member).await;
    assert_eq!(number(&delivery), 1);
    ack(delivery).await;
    broker.close(SOON).await.unwrap();
}
