//! Streams are kept short, and never at the cost of what somebody has to take.

use trunkline_core::{Broker as _, Pattern, SubscribeOptions};
use trunkline_redis::RedisBroker;

use crate::{Place, eventually, expect, group_of, publish};

async fn short(place: &Place) -> RedisBroker {
    let config = place.config().with_partitions(1).with_max_stream_length(50);
    RedisBroker::connect(config).await.unwrap()
}

/// Waits until the trimmer has looked at every stream twice: only then does it cut. Nobody takes the
/// topic that is published to, and nothing of it is kept back.
async fn two_rounds(place: &Place, broker: &RedisBroker) {
    for _ in 0..2 {
        publish(broker, "witness", "k", 0..100).await;
        eventually("what nobody takes is trimmed", || async {
            place.length("witness").await <= 51
        })
        .await;
    }
}

#[tokio::test]
async fn what_every_group_has_taken_is_trimmed_and_nothing_else() {
    let place = Place::new().await;
    let broker = short(&place).await;
    let mut first = broker.subscribe(group_of(&["a"])).await.unwrap();
    let other = SubscribeOptions::group(
        trunkline_core::Group::from_static("offline"),
        [Pattern::new("a").unwrap()],
    );
    broker.subscribe(other.clone()).await.unwrap().close(crate::SOON).await.unwrap();
    publish(&broker, "a", "k", 0..300).await;
    expect(&mut first, 0..300).await;
    // The group that is away still has all of it.
    two_rounds(&place, &broker).await;
    assert_eq!(place.length("a").await, 300);
    let mut second = broker.subscribe(other).await.unwrap();
    expect(&mut second, 0..300).await;
    eventually("what was taken is trimmed", || async { place.length("a").await <= 51 }).await;
    assert!(place.length("a").await >= 50, "more was trimmed than the setting says");
}

#[tokio::test]
async fn a_live_broadcast_subscriber_that_is_slow_keeps_what_it_has_not_read() {
    let place = Place::new().await;
    let broker = short(&place).await;
    let options = SubscribeOptions::broadcast([Pattern::new("a").unwrap()]).with_prefetch(4);
    let mut slow = broker.subscribe(options).await.unwrap();
    publish(&broker, "a", "k", 0..300).await;
    two_rounds(&place, &broker).await;
    assert!(place.length("a").await >= 290, "unread entries are gone");
    expect(&mut slow, 0..300).await;
    eventually("what was read is trimmed", || async { place.length("a").await <= 51 }).await;
}

#[tokio::test]
async fn what_is_pending_is_not_trimmed() {
    let place = Place::new().await;
    let broker = short(&place).await;
    let mut member = broker.subscribe(group_of(&["a"])).await.unwrap();
    publish(&broker, "a", "slow", 0..1).await;
    let held = crate::next(&mut member).await;
    publish(&broker, "a", "k", 0..300).await;
    expect(&mut member, 0..300).await;
    two_rounds(&place, &broker).await;
    assert_eq!(place.length("a").await, 301);
    held.ack().await.unwrap();
    eventually("what was acknowledged is trimmed", || async { place.length("a").await <= 51 })
        .await;
}
