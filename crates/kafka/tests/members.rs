//! Members of a group that settle while partitions move: what is particular to Kafka's rebalances.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/orders.rs"]
mod orders;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use trunkline_core::{
    Broker as _, BrokerAdmin as _, Data, DeadLetter, DeadLetterFilter, DeadLetterVerdict, Delivery,
    Event, FailureCause, Subscription, SubscriptionExt as _,
};
use trunkline_kafka::{KafkaBroker, KafkaConfig};
use trunkline_launcher::{Kind, Server};

use orders::{GROUP, SERVER, SOON, TOPIC, ack, join, next, number, prefix, publish};

const SESSION: Duration = Duration::from_secs(3);
/// Long beside a rebalance: who waits for it shows.
const DRAIN: Duration = Duration::from_secs(30);

async fn connect(prefix: &str) -> KafkaBroker {
    KafkaBroker::connect(config(prefix)).await.unwrap()
}

fn config(prefix: &str) -> KafkaConfig {
    config_of(&SERVER, prefix)
}

fn config_of(server: &Server, prefix: &str) -> KafkaConfig {
    KafkaConfig::new(&server.url())
        .unwrap()
        .with_prefix(prefix)
        .unwrap()
        .with_partitions(4)
        .with_replication(1)
        .with_session_timeout(SESSION, Duration::from_millis(150))
        .with_drain_timeout(DRAIN)
}

fn event(key: &str, number: usize) -> Event {
    let draft = Event::from_data("t", TOPIC, Data::json(number.to_string()));
    draft.key(key).build().unwrap()
}

fn key(delivery: &Delivery) -> String {
    delivery.event().attributes().key().unwrap().to_owned()
}

fn letter() -> DeadLetter {
    let now = jiff::Timestamp::now();
    DeadLetter {
        cause: FailureCause::Failed,
        attempts: 1,
        first_failure: now,
        last_failure: now,
        error_kind: "handler_failed".to_owned(),
        error_text: "on purpose".to_owned(),
    }
}

async fn reject(delivery: Delivery) {
    let rejected = timeout(SOON, delivery.reject(letter())).await.expect("a reject ends soon");
    rejected.map_err(|unsettled| unsettled.error).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_slow_while_its_subscription_closes_acknowledges_at_once() {
    let prefix = prefix();
    let broker = connect(&prefix).await;
    let mut member = join(&broker, 10).await;
    publish(&broker, &[event("a", 0)]).await;
    let delivery = next(&mut member).await;
    let begun = Instant::now();
    let closing = tokio::spawn(member.close(SOON));
    // Longer than the silence after which a process is suspected to have stood still.
    tokio::time::sleep(SESSION).await;
    ack(delivery).await;
    closing.await.unwrap().unwrap();
    assert!(begun.elapsed() < 2 * SESSION, "closing took {:?}", begun.elapsed());
    // The ack has landed: nobody gets it again.
    let mut heir = join(&broker, 10).await;
    publish(&broker, &[event("a", 1)]).await;
    assert_eq!(number(&next(&mut heir).await), 1);
    broker.close(SOON).await.unwrap();
}

/// A lane starts its next event when the one before is settled: a rebalance that waits for both must let
/// the first be settled.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_in_a_lane_does_not_hold_a_rebalance_up() {
    let prefix = prefix();
    let (one, two) = (connect(&prefix).await, connect(&prefix).await);
    let mut member = join(&one, 100).await;
    let keys: Vec<String> = (0..16).map(|at| format!("k{at}")).collect();
    let events: Vec<Event> =
        (0..2).flat_map(|number| keys.iter().map(move |key| event(key, number))).collect();
    publish(&one, &events).await;
    let mut lanes: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
    for _ in 0..events.len() {
        let delivery = next(&mut member).await;
        lanes.entry(key(&delivery)).or_default().push(delivery);
    }
    // The rebalance is on while the lanes work.
    let joined = tokio::spawn(async move {
        let heir = join(&two, 100).await;
        (two, heir)
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let work = lanes.into_values().map(|lane| async move {
        for (at, delivery) in lane.into_iter().enumerate() {
            if at == 0 { reject(delivery).await } else { ack(delivery).await }
        }
    });
    futures_util::future::join_all(work).await;
    assert!(begun.elapsed() < DRAIN / 3, "the lanes waited {:?}", begun.elapsed());
    let (two, mut heir) = joined.await.unwrap();
    assert!(timeout(Duration::from_secs(2), heir.next()).await.is_err(), "nothing comes again");
    for broker in [one, two] {
        broker.close(SOON).await.unwrap();
    }
}

/// What comes to a member that joins, while another one has something of every partition.
async fn given_away(config: KafkaConfig) -> usize {
    let one = KafkaBroker::connect(config.clone()).await.unwrap();
    let two = KafkaBroker::connect(config).await.unwrap();
    let mut member = join(&one, 100).await;
    let events: Vec<Event> = (0..16).map(|at| event(&format!("k{at}"), at)).collect();
    publish(&one, &events).await;
    let mut held = Vec::new();
    for _ in 0..events.len() {
        held.push(next(&mut member).await);
    }
    let mut heir = join(&two, 100).await;
    let mut given_away = 0;
    while let Ok(delivery) = timeout(SESSION, heir.next()).await {
        ack(delivery.unwrap().expect("the subscription goes on")).await;
        given_away += 1;
    }
    drop(held);
    for broker in [one, two] {
        broker.close(SOON).await.unwrap();
    }
    given_away
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_has_is_not_given_to_one_that_joins() {
    assert_eq!(given_away(config(&prefix())).await, 0);
}

#[cfg(feature = "mutants")]
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_drain_before_a_revoke_is_found_out() {
    let broken = config(&prefix()).with_mutant(trunkline_kafka::Mutant::NoDrainBeforeRevoke);
    assert!(given_away(broken).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_were_paused_for_a_stuck_handler_go_on_after_a_rebalance() {
    const EVENTS: usize = 4_000;
    let prefix = prefix();
    let (one, two) = (connect(&prefix).await, connect(&prefix).await);
    let mut member = join(&one, 64).await;
    let events: Vec<Event> = (0..EVENTS).map(|at| event(&format!("k{}", at % 97), at)).collect();
    publish(&one, &events).await;
    // Enough to make the queue half empty when some of it goes to another member, and not before.
    let mut seen = BTreeSet::new();
    let mut stuck = Vec::new();
    for _ in 0..64 {
        stuck.push(next(&mut member).await);
    }
    // Longer than a handler may be stuck before its partitions are paused.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let joined = tokio::spawn(async move {
        let heir = join(&two, 64).await;
        (two, heir)
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    for delivery in stuck {
        seen.insert(number(&delivery));
        ack(delivery).await;
    }
    let (two, mut heir) = joined.await.unwrap();
    while seen.len() < EVENTS {
        let delivery = tokio::select! {
            delivery = member.next() => delivery,
            delivery = heir.next() => delivery,
            () = tokio::time::sleep(SOON) => panic!("{} of {EVENTS} came", seen.len()),
        };
        let delivery = delivery.unwrap().expect("the subscription goes on");
        seen.insert(number(&delivery));
        ack(delivery).await;
    }
    for broker in [one, two] {
        broker.close(SOON).await.unwrap();
    }
}

/// The group has committed nothing yet, and its session is over when the server is back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_an_outage_does_not_come_again_in_the_same_process() {
    let server = tokio::task::spawn_blocking(|| Server::start(Kind::Kafka).unwrap());
    let server = Arc::new(server.await.unwrap());
    let config = config_of(&server, &prefix()).with_commit_interval(Duration::from_secs(60));
    let broker = KafkaBroker::connect(config).await.unwrap();
    let mut member = join(&broker, 10).await;
    publish(&broker, &[event("a", 0)]).await;
    ack(next(&mut member).await).await;
    let outage = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || {
            server.kill().unwrap();
            std::thread::sleep(2 * SESSION);
            server.restart().unwrap();
        }
    });
    outage.await.unwrap();
    publish(&broker, &[event("a", 1)]).await;
    assert_eq!(number(&next(&mut member).await), 1);
    broker.close(SOON).await.unwrap();
    drop(broker);
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

/// Who has the partition of a key handles its events one after the other; another member would not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_event_goes_to_the_member_that_has_its_key() {
    let prefix = prefix();
    let (one, two) = (connect(&prefix).await, connect(&prefix).await);
    let (mut first, mut second) = (join(&one, 100).await, join(&two, 100).await);
    // Both have partitions by now, or soon.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let keys: Vec<String> = (0..16).map(|at| format!("k{at}")).collect();
    let events: Vec<Event> = keys.iter().map(|key| event(key, 0)).collect();
    publish(&one, &events).await;
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..keys.len() {
        let (owner, delivery) = either(&mut first, &mut second).await;
        owners.insert(key(&delivery), owner);
        reject(delivery).await;
    }
    assert_eq!(owners.values().collect::<BTreeSet<_>>().len(), 2, "both have keys: {owners:?}");
    let filter = DeadLetterFilter { group: Some(GROUP), ..DeadLetterFilter::default() };
    for kept in one.dead_letters(&filter).await.unwrap() {
        one.settle_dead_letter(&kept.id, DeadLetterVerdict::Redrive).await.unwrap();
    }
    for _ in 0..keys.len() {
        let (owner, delivery) = either(&mut first, &mut second).await;
        let key = key(&delivery);
        assert_eq!(owner, owners[&key], "the member that got {key} again");
        ack(delivery).await;
    }
    for broker in [one, two] {
        broker.close(SOON).await.unwrap();
    }
}

/// There, an old event would take the place of a later one of its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_event_of_a_compacted_topic_is_not_written_to_it() {
    let config = config(&prefix()).with_topic_property("cleanup.policy", "compact");
    let broker = KafkaBroker::connect(config).await.unwrap();
    let mut member = join(&broker, 10).await;
    publish(&broker, &[event("a", 0)]).await;
    reject(next(&mut member).await).await;
    publish(&broker, &[event("a", 1)]).await;
    ack(next(&mut member).await).await;
    let kept = broker.dead_letters(&DeadLetterFilter::default()).await.unwrap();
    broker.settle_dead_letter(&kept[0].id, DeadLetterVerdict::Redrive).await.unwrap();
    let again = next(&mut member).await;
    assert_eq!(number(&again), 0);
    ack(again).await;
    let topics = broker.topics().await.unwrap();
    let events: Vec<u64> =
        topics.iter().filter(|info| info.name == TOPIC).map(|i| i.events).collect();
    assert_eq!(events, [2]);
    broker.close(SOON).await.unwrap();
}

async fn either(
    first: &mut Box<dyn Subscription>,
    second: &mut Box<dyn Subscription>,
) -> (usize, Delivery) {
    tokio::select! {
        delivery = next(first) => (0, delivery),
        delivery = next(second) => (1, delivery),
    }
}
