//! Nobody sleeps while there is work for them, and nobody waits for what has gone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod member;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use member::Member;

use trunkline_core::{
    Broker, BrokerAdmin, BrokerExt, Data, Delivery, ErrorKind, Event, Group, GroupSpec, OnFull,
    Pattern, PublishOptions, SubscribeOptions, SubscriptionExt, Topic,
};
use trunkline_memory::{MemoryBroker, MemoryConfig};

const SOON: Duration = Duration::from_secs(10);

#[expect(clippy::needless_pass_by_value, reason = "a number or a text, plain at the call")]
fn event(id: impl ToString, key: &str) -> Event {
    let topic = Topic::from_static("orders");
    Event::from_data("T", topic, Data::json("1")).id(id.to_string()).key(key).build().unwrap()
}

fn group() -> SubscribeOptions {
    SubscribeOptions::group(Group::new("billing").unwrap(), [Pattern::all()])
}

fn id(delivery: &Delivery) -> String {
    delivery.event().id().to_string()
}

#[tokio::test]
async fn a_member_that_holds_nearly_all_it_may_is_woken_for_the_next_event() {
    let broker = MemoryBroker::default();
    let mut member = Member::new(&broker, group().with_prefetch(8)).await;
    for number in 0..7 {
        broker.publish_one(&event(number, &number.to_string())).await.unwrap();
    }
    member.take_all();
    assert_eq!(member.out.len(), 7);
    broker.publish_one(&event(7, "7")).await.unwrap();
    assert!(!member.sleeps(), "one more may be out, and there is one");
}

#[tokio::test]
async fn a_member_is_woken_although_others_looked_at_the_queue_while_it_acknowledged() {
    let broker = MemoryBroker::default();
    let mut member = Member::new(&broker, group().with_prefetch(8)).await;
    for number in 0..16 {
        broker.publish_one(&event(number, &number.to_string())).await.unwrap();
    }
    member.take_all();
    for delivery in member.out.split_off(0) {
        delivery.ack().await.unwrap();
        broker.health().await;
    }
    assert!(!member.sleeps(), "eight are acknowledged, and eight wait");
}

#[tokio::test]
async fn a_member_is_woken_although_its_buffer_overflows_while_it_acknowledges() {
    let broker = MemoryBroker::default();
    let lossy = SubscribeOptions::broadcast([Pattern::all()])
        .with_prefetch(8)
        .with_buffer(8, OnFull::DropOldest);
    let mut member = Member::new(&broker, lossy).await;
    for number in 0..8 {
        broker.publish_one(&event(number, &number.to_string())).await.unwrap();
    }
    member.take_all();
    for number in 8..16 {
        broker.publish_one(&event(number, &number.to_string())).await.unwrap();
    }
    for delivery in member.out.split_off(0) {
        delivery.ack().await.unwrap();
        broker.publish_one(&event("more", "more")).await.unwrap();
    }
    assert!(!member.sleeps(), "eight are acknowledged, and eight wait");
}

#[tokio::test]
async fn a_released_event_is_first_of_its_key_also_where_a_delayed_one_waits() {
    let broker = MemoryBroker::default();
    let mut member = Member::new(&broker, group().with_prefetch(4)).await;
    tokio::time::pause();
    let later = PublishOptions::default().with_delay(Duration::from_secs(1));
    let early = [event("scheduled", "k")];
    broker.publish(&early, &later).await.into_result().unwrap();
    for number in 1..=2 {
        broker.publish_one(&event(number, "k")).await.unwrap();
    }
    // Of one key a quarter of the prefetch is out; the second event waits, and then the scheduled one.
    member.take_all();
    tokio::time::advance(Duration::from_secs(2)).await;
    member.take_all();
    assert_eq!(member.out.iter().map(id).collect::<Vec<_>>(), ["1"]);
    drop(member.out.pop());
    member.take_all();
    assert_eq!(member.out.iter().map(id).collect::<Vec<_>>(), ["1"]);
}

#[tokio::test]
async fn a_publisher_goes_on_when_the_subscriber_that_it_waits_for_leaves() {
    let broker = MemoryBroker::default();
    let mut stays = Member::new(&broker, group()).await;
    let slow = SubscribeOptions::broadcast([Pattern::all()]).with_buffer(1, OnFull::Block);
    let slow = broker.subscribe(slow).await.unwrap();
    broker.publish_one(&event(0, "k")).await.unwrap();
    let publisher = broker.clone();
    let waiting = tokio::spawn(async move { publisher.publish_one(&event(1, "k")).await });
    // Long enough that it has stopped looking and waits.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    drop(slow);
    tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    stays.take_all();
    assert_eq!(stays.out.len(), 2);
}

#[tokio::test]
async fn a_scheduled_event_comes_to_a_new_group_at_its_time_and_not_once_it_is_cancelled() {
    let broker = MemoryBroker::new(MemoryConfig::default().with_history(10));
    tokio::time::pause();
    let later = PublishOptions::default().with_delay(Duration::from_secs(60));
    let events = [event("kept", "k"), event("cancelled", "k")];
    broker.publish(&events, &later).await.into_result().unwrap();
    assert!(broker.cancel(events[1].id()).await.unwrap());
    let mut member = Member::new(&broker, group()).await;
    member.take_all();
    assert!(member.out.is_empty(), "it is not due");
    tokio::time::advance(Duration::from_secs(61)).await;
    member.take_all();
    assert_eq!(member.out.iter().map(id).collect::<Vec<_>>(), ["kept"]);
}

#[tokio::test]
async fn a_wait_without_end_is_a_long_wait() {
    let broker = MemoryBroker::default();
    let mut member = Member::new(&broker, group().with_buffer(1, OnFull::Block)).await;
    let endless = PublishOptions::default().with_timeout(Duration::MAX);
    let events = [event(0, "a"), event(1, "b")];
    let publishing = broker.publish(&events, &endless);
    member.take_all();
    tokio::time::timeout(SOON, publishing).await.unwrap().into_result().unwrap();
    member.take_all();
    let delivery = member.out.pop().unwrap();
    delivery.retry(Duration::MAX, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_made_during_a_close_ends() {
    for _ in 0..500 {
        let broker = MemoryBroker::default();
        let (closing, start) = (broker.clone(), Arc::new(tokio::sync::Barrier::new(2)));
        let started = Arc::clone(&start);
        let closed = tokio::spawn(async move {
            started.wait().await;
            closing.close(SOON).await
        });
        start.wait().await;
        let subscribed = broker.subscribe(group()).await;
        closed.await.unwrap().unwrap();
        match subscribed {
            Ok(mut subscription) => {
                let next = tokio::time::timeout(SOON, subscription.next()).await;
                assert!(next.expect("it ends").unwrap().is_none());
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_while_its_group_is_deleted_is_in_the_group() {
    for _ in 0..500 {
        let broker = MemoryBroker::default();
        let name = Group::new("billing").unwrap();
        broker.declare_group(GroupSpec::new(name.clone(), [Pattern::all()])).await.unwrap();
        let (deleting, start) = (broker.clone(), Arc::new(tokio::sync::Barrier::new(2)));
        let started = Arc::clone(&start);
        let deleted = tokio::spawn(async move {
            started.wait().await;
            deleting.delete_group(&name).await
        });
        start.wait().await;
        let mut subscription = broker.subscribe(group()).await.unwrap();
        if let Err(error) = deleted.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        broker.publish_one(&event(0, "k")).await.unwrap();
        let next = tokio::time::timeout(SOON, subscription.next()).await;
        assert!(next.expect("it is delivered").unwrap().is_some());
    }
}
