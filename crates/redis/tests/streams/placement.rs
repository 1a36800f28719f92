//! What one publish may override, and what is refused.

use trunkline_core::{Broker as _, ErrorKind, PartitionRules, PublishOptions};

use crate::{Place, event, expect, group_of};

async fn publish(place: &Place, options: &PublishOptions) -> trunkline_core::Result<()> {
    let broker = place.broker().await;
    broker.publish(&[event("a", Some("k"), 0)], options).await.into_result()
}

#[tokio::test]
async fn a_publish_may_choose_its_partition_and_add_headers() {
    let place = Place::new().await;
    let options = PublishOptions::default().with_partition(3).with_header("x-origin", "till 4");
    publish(&place, &options).await.unwrap();
    let entries = place.entries("a..3").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["x-origin"], "till 4");
    let broker = place.broker().await;
    let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
    expect(&mut member, 0..1).await;
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_invalid_and_names_how_many_are() {
    let place = Place::new().await;
    let refused = publish(&place, &PublishOptions::default().with_partition(8)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("8 partitions"), "{refused}");
}

#[tokio::test]
async fn an_exchange_is_unsupported() {
    let place = Place::new().await;
    let refused = publish(&place, &PublishOptions::default().with_exchange("x")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_topic_that_exists_keeps_its_partitions_whatever_another_broker_is_told() {
    let place = Place::new().await;
    publish(&place, &PublishOptions::default()).await.unwrap();
    let config = place.config().with_partitions(2);
    let other = trunkline_redis::RedisBroker::connect(config).await.unwrap();
    let far = PublishOptions::default().with_partition(7);
    other.publish(&[event("a", None, 1)], &far).await.into_result().unwrap();
    assert_eq!(place.length("a..7").await, 1);
}

#[tokio::test]
async fn a_rule_says_how_many_partitions_its_topics_get() {
    let place = Place::new().await;
    let mut rules = PartitionRules::default();
    rules.add(["few.#".parse().unwrap()], Some(2));
    let config = place.config().with_partition_rules(rules);
    let broker = trunkline_redis::RedisBroker::connect(config).await.unwrap();
    for (name, last) in [("few.a", 1), ("b", 7)] {
        let event = [event(name, None, 0)];
        let at = |partition| PublishOptions::default().with_partition(partition);
        broker.publish(&event, &at(last)).await.into_result().unwrap();
        let refused = broker.publish(&event, &at(last + 1)).await.into_result().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{name}: {refused}");
    }
}
