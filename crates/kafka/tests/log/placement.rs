//! Where records are, by strategy.

use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use trunkline_core::{
    Broker as _, Data, ErrorKind, Event, PartitionRules, PublishOptions, Topic, partition_of,
};
use trunkline_kafka::PartitionStrategy;

use super::{PARTITIONS, SOON, TOPIC, config, connect, event, plain, prefix, publish};

const KEYS: usize = 40;
const WITHOUT: usize = 200;

/// The partition of every record of the topic, with its key.
fn records(prefix: &str, count: usize) -> Vec<(u32, Option<String>)> {
    let reader: BaseConsumer = plain().set("group.id", "reader").create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS.cast_signed() {
        let name = format!("{prefix}{TOPIC}");
        all.add_partition_offset(&name, partition, Offset::Beginning).unwrap();
    }
    reader.assign(&all).unwrap();
    let (mut found, deadline) = (Vec::new(), Instant::now() + SOON);
    while found.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} records are there", found.len());
        let Some(message) = reader.poll(std::time::Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        let key = message.key().map(|key| String::from_utf8(key.to_vec()).unwrap());
        found.push((message.partition().cast_unsigned(), key));
    }
    found
}

/// How many records without a key each partition has, when those with one are at their key's.
async fn shares(strategy: PartitionStrategy, properties: &[(&str, &str)]) -> Vec<usize> {
    let prefix = prefix();
    let mut config = config(&prefix).with_partition_strategy(strategy);
    for (name, value) in properties {
        config = config.with_property(*name, *value).unwrap();
    }
    let broker = connect(&config).await;
    for round in 0..4 {
        let keys: Vec<_> = (0..KEYS).map(|key| event(Some(&format!("key-{key}")), round)).collect();
        // They reach every partition, of which the client knows afterwards.
        publish(&broker, &keys).await;
        let without: Vec<_> = (0..WITHOUT / 4).map(|at| event(None, at)).collect();
        publish(&broker, &without).await;
    }
    let count = 4 * KEYS + WITHOUT;
    let found = tokio::task::spawn_blocking(move || records(&prefix, count)).await.unwrap();
    let mut shares = vec![0; PARTITIONS as usize];
    for (partition, key) in found {
        match key {
            Some(key) => assert_eq!(partition, partition_of(&key, PARTITIONS), "{key}"),
            None => shares[partition as usize] += 1,
        }
    }
    assert_eq!(shares.iter().sum::<usize>(), WITHOUT);
    broker.close(SOON).await.unwrap();
    shares
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_events_without_a_key_go_anywhere() {
    let shares = shares(PartitionStrategy::default(), &[]).await;
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_a_key_take_the_partitions_in_turn() {
    let shares = shares(PartitionStrategy::RoundRobin, &[]).await;
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most - least <= 1, "{shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_a_key_stay_on_one_partition_for_a_while() {
    let minute = ("sticky.partitioning.linger.ms", "60000");
    let shares = shares(PartitionStrategy::Sticky, &[minute]).await;
    let used = shares.iter().filter(|share| **share > 0).count();
    assert_eq!(used, 1, "{shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_a_publish_names_wins_over_the_turn() {
    let prefix = prefix();
    let strategy = PartitionStrategy::RoundRobin;
    let broker = connect(&config(&prefix).with_partition_strategy(strategy)).await;
    let options = PublishOptions::default().with_partition(3);
    let events: Vec<_> = (0..10).map(|at| event(None, at)).collect();
    broker.publish(&events, &options).await.into_result().unwrap();
    let found = tokio::task::spawn_blocking(move || records(&prefix, 10)).await.unwrap();
    assert!(found.iter().all(|(partition, _)| *partition == 3), "{found:?}");
    broker.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_says_how_many_partitions_its_topics_get() {
    let mut rules = PartitionRules::default();
    rules.add(["few.#".parse().unwrap()], Some(2));
    let broker = connect(&config(&prefix()).with_partition_rules(rules)).await;
    for (topic, last) in [(Topic::from_static("few.a"), 1), (TOPIC, PARTITIONS - 1)] {
        let event = [Event::from_data("t", topic, Data::json("0")).build().unwrap()];
        let at = |partition| PublishOptions::default().with_partition(partition);
        broker.publish(&event, &at(last)).await.into_result().unwrap();
        let refused = broker.publish(&event, &at(last + 1)).await.into_result().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    broker.close(SOON).await.unwrap();
}
