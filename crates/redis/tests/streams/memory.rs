//! A server that has reached its `maxmemory`.

use std::collections::HashSet;
use std::time::Duration;

use trunkline_core::{
    BatchResult, Broker as _, BrokerExt as _, Data, Error, ErrorKind, Event, PublishOptions,
    RetryClass,
};
use trunkline_launcher::Server;
use trunkline_redis::RedisBroker;

use crate::{Place, event, expect, group_of, publish, topic};

/// A server of its own: its memory is everybody's.
async fn alone() -> (Server, Place, RedisBroker) {
    let (server, place) = Place::alone().await;
    let broker = RedisBroker::connect(place.config().with_partitions(1)).await.unwrap();
    (server, place, broker)
}

async fn limit(place: &Place, bytes: u64) {
    place.run::<()>(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes)).await;
}

/// Leaves so many bytes beyond what is used.
async fn leave_room(place: &Place, bytes: u64) {
    let info: String = place.run(redis::cmd("INFO").arg("memory")).await;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    limit(place, used.trim().parse::<u64>().unwrap() + bytes).await;
}

/// Whatever needs memory is refused.
async fn fill(place: &Place) {
    limit(place, 1).await;
}

async fn empty(place: &Place) {
    limit(place, 0).await;
}

fn assert_full(error: &Error) {
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Full, RetryClass::Transient), "{error}");
    let text = error.to_string();
    assert!(text.contains("maxmemory") && text.contains("raise it"), "{text}");
}

/// The first event of each key is refused, and what follows it is not tried.
fn assert_refused(events: &[Event], result: &BatchResult) {
    let mut seen = HashSet::new();
    for (at, event) in events.iter().enumerate() {
        let error = result.error(at).expect("nothing is accepted");
        match event.attributes().key() {
            Some(key) if !seen.insert(key) => assert_eq!(error.kind(), ErrorKind::Aborted),
            _ => assert_full(error),
        }
    }
}

#[tokio::test]
async fn a_full_server_refuses_what_is_new_and_takes_it_when_there_is_room() {
    let (_server, place, broker) = alone().await;
    let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
    publish(&broker, "a", "k", 0..3).await;
    fill(&place).await;
    assert_full(&broker.publish_one(&event("a", Some("k"), 3)).await.unwrap_err());
    assert_full(&broker.publish_one(&event("unknown", None, 0)).await.unwrap_err());
    let later = PublishOptions::default().with_delay(Duration::from_millis(1));
    let keys = ["k", "l", "k", "l", "k"];
    for options in [PublishOptions::default(), later.clone()] {
        let batch = keys.map(|key| event("a", Some(key), 9));
        assert_refused(&batch, &broker.publish(&batch, &options).await);
        let batch = [event("a", Some("k"), 9), event("a", Some("l"), 9), event("a", None, 9)];
        assert_refused(&batch, &broker.publish(&batch, &options).await);
    }
    empty(&place).await;
    publish(&broker, "a", "k", 3..6).await;
    broker.publish(&[event("a", Some("k"), 6)], &later).await.into_result().unwrap();
    // What was accepted is all there, and nothing of what was refused.
    expect(&mut member, 0..7).await;
    assert_eq!(place.length("a").await, 7);
}

#[tokio::test]
async fn a_batch_that_fills_the_server_is_accepted_up_to_there_in_order() {
    const COUNT: u64 = 8_000;
    const SIZE: usize = 2_000;
    let (_server, place, broker) = alone().await;
    let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
    publish(&broker, "a", "k", 0..1).await;
    let long = |number: u64| {
        let data = Data::json(format!("{number:0>SIZE$}"));
        Event::from_data("t", topic("a"), data).key("k").build().unwrap()
    };
    let events: Vec<Event> = (1..COUNT).map(long).collect();
    leave_room(&place, COUNT * SIZE as u64 / 2).await;
    let result = broker.publish(&events, &PublishOptions::default()).await;
    let (first, refused) = result.failures().next().expect("the server is full on the way");
    assert_full(refused);
    assert!(first > 0, "there was room for some");
    assert_eq!(result.failures().len(), events.len() - first, "none after it is accepted");
    let mut later = result.failures().skip(1);
    assert!(later.all(|(_, error)| error.kind() == ErrorKind::Aborted));
    assert_eq!(place.length("a").await, 1 + first as u64);
    empty(&place).await;
    let rest = broker.publish(&events[first..], &PublishOptions::default()).await;
    rest.into_result().unwrap();
    expect(&mut member, 0..COUNT).await;
}
