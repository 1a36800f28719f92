//! Events that are routed both ways: one copy for everyone, and none lost.

use std::collections::HashSet;
use std::time::Duration;

use trunkline_core::{
    Audience, BatchResult, Broker, Error, ErrorKind, Event, OnFull, PublishOptions, Route,
    Subscription, SubscriptionExt,
};
use trunkline_hybrid::HybridBroker;
use trunkline_memory::{MemoryBroker, MemoryConfig};

use crate::support::*;

fn hybrid(remote: &impl RemoteSide) -> HybridBroker {
    HybridBroker::new(memory(), remote.clone(), always(Route::Both))
}

trait RemoteSide: Broker + Clone {}
impl<B: Broker + Clone> RemoteSide for B {}

/// Subscribes on a scripted remote, publishes, and hands out the remote copy.
async fn published(remote: &Scripted, broker: &HybridBroker, event: &Event) -> Event {
    assert!(publish(broker, std::slice::from_ref(event)).await.is_ok());
    remote.published(remote.batches().len() - 1, 0)
}

#[tokio::test]
async fn a_process_that_publishes_and_subscribes_sees_exactly_one_copy() {
    let remote = memory();
    let (here, there) = (hybrid(&remote), hybrid(&remote));
    let mut own = here.subscribe(broadcast()).await.unwrap();
    let mut other = there.subscribe(broadcast()).await.unwrap();
    let batch: Vec<Event> = (0..20).map(|n| event(&n.to_string(), "a")).collect();
    assert!(publish(&here, &batch).await.is_ok());
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(drain(&mut own).await, expected);
    assert_eq!(drain(&mut other).await, expected, "another process gets the remote copy");
    assert_eq!((here.counters().echoes_dropped, here.counters().routed_both), (20, 20));
    assert_eq!(there.counters().echoes_dropped, 0);
}

#[tokio::test]
async fn a_group_gets_exactly_one_copy_and_it_is_the_remote_one() {
    let remote = memory();
    let (here, there) = (hybrid(&remote), hybrid(&remote));
    let mut members: Vec<Box<dyn Subscription>> = Vec::new();
    for broker in [&here, &there] {
        members.push(broker.subscribe(group("billing")).await.unwrap());
    }
    let batch: Vec<Event> = (0..20).map(|n| event(&n.to_string(), &n.to_string())).collect();
    assert!(publish(&here, &batch).await.is_ok());
    let mut seen = Vec::new();
    for member in &mut members {
        while let Some(delivery) = next_now(member).await {
            assert!(delivery.event().attributes().origin().is_some(), "the remote copy");
            seen.push(delivery.event().id().to_string());
            delivery.ack().await.unwrap();
        }
    }
    seen.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(seen, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_local_copy_goes_to_broadcast_subscribers_only_and_after_the_remote_one() {
    let (local, remote) = (Scripted::new(), Scripted::new());
    let broker = HybridBroker::new(local.clone(), remote.clone(), always(Route::Both));
    let answer = remote.will_wait();
    let batch = [event("1", "a")];
    let answering = async {
        assert!(local.batches().is_empty(), "not before the remote broker has accepted it");
        answer.send(BatchResult::accepted()).unwrap();
    };
    let (result, ()) = tokio::join!(publish(&broker, &batch), answering);
    assert!(result.is_ok());
    let state = local.state();
    let (events, options) = &state.published[0];
    assert!(events[0].ptr_eq(&batch[0]));
    assert_eq!(options.audience, Audience::BroadcastOnly);
}

#[tokio::test]
async fn what_the_remote_broker_refuses_is_not_copied() {
    let (local, remote) = (Scripted::new(), Scripted::new());
    let broker = HybridBroker::new(local.clone(), remote.clone(), always(Route::Both));
    remote.will_fail(&[(0, ErrorKind::TooLarge)]);
    let result = publish(&broker, &[event("1", "a"), event("2", "b")]).await;
    assert_eq!(kinds(&result), [(0, ErrorKind::TooLarge)]);
    assert_eq!(local.batches(), [["2"]]);
}

#[tokio::test]
async fn an_event_whose_local_copy_was_refused_arrives_by_the_remote_broker() {
    let remote = Scripted::new();
    let broker = hybrid(&remote);
    let tight = broadcast().with_buffer(1, OnFull::Error);
    let mut subscription = broker.subscribe(tight).await.unwrap();
    let copies = [
        published(&remote, &broker, &event("1", "a")).await,
        published(&remote, &broker, &event("2", "a")).await,
    ];
    copies.iter().for_each(|copy| remote.deliver(copy));
    let mut seen = drain(&mut subscription).await;
    seen.sort();
    assert_eq!(seen, ["1", "2"], "the second did not fit beside the first");
    let counters = broker.counters();
    assert_eq!((counters.local_copies_refused, counters.echoes_dropped), (1, 1));
    assert_eq!(counters.routed_both, 2);
}

#[tokio::test]
async fn a_remote_copy_that_comes_first_waits_for_the_fate_of_the_local_one() {
    for refused in [false, true] {
        let (local, remote) = (Scripted::new(), Scripted::new());
        let broker = HybridBroker::new(local.clone(), remote.clone(), always(Route::Both));
        let mut subscription = broker.subscribe(broadcast()).await.unwrap();
        let answer = local.will_wait();
        let batch = [event("1", "a")];
        let meanwhile = async {
            remote.deliver(&remote.published(0, 0));
            remote.deliver(&event("2", "a"));
            assert!(next_now(&mut subscription).await.is_none(), "nothing overtakes it either");
            let full = Error::new(ErrorKind::Full, "publish", "as told");
            let fate =
                if refused { BatchResult::failed(1, &full) } else { BatchResult::accepted() };
            answer.send(fate).unwrap();
        };
        let (result, ()) = tokio::join!(publish(&broker, &batch), meanwhile);
        assert!(result.is_ok(), "the remote broker has accepted it");
        let expected: &[&str] = if refused { &["1", "2"] } else { &["2"] };
        assert_eq!(drain(&mut subscription).await, expected);
    }
}

#[tokio::test]
async fn a_waiting_subscriber_is_woken_when_the_local_copy_is_decided() {
    let (local, remote) = (Scripted::new(), Scripted::new());
    let broker = HybridBroker::new(local.clone(), remote.clone(), always(Route::Both));
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    let answer = local.will_wait();
    let publisher = broker.clone();
    let publishing = tokio::spawn(async move { publish(&publisher, &[event("1", "a")]).await });
    while local.batches().is_empty() {
        tokio::task::yield_now().await;
    }
    remote.deliver(&remote.published(0, 0));
    let consuming = tokio::spawn(async move {
        let next = subscription.next().await;
        next.unwrap().unwrap().event().id().to_string()
    });
    tokio::task::yield_now().await;
    let full = Error::new(ErrorKind::Full, "publish", "as told");
    answer.send(BatchResult::failed(1, &full)).unwrap();
    assert!(publishing.await.unwrap().is_ok());
    assert_eq!(consuming.await.unwrap(), "1");
}

#[tokio::test]
async fn an_event_of_unknown_outcome_is_delivered_when_it_turns_up() {
    let remote = Scripted::new();
    let broker = hybrid(&remote);
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    remote.will_fail(&[(0, ErrorKind::TimedOut)]);
    let result = publish(&broker, &[event("1", "a")]).await;
    assert_eq!(kinds(&result), [(0, ErrorKind::TimedOut)]);
    remote.deliver(&remote.published(0, 0));
    assert_eq!(drain(&mut subscription).await, ["1"]);
}

#[tokio::test]
async fn the_retry_of_an_unknown_outcome_is_seen_once() {
    let remote = Scripted::new();
    let broker = hybrid(&remote);
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    remote.will_fail(&[(0, ErrorKind::TimedOut)]);
    let event = event("1", "a");
    assert!(!publish(&broker, std::slice::from_ref(&event)).await.is_ok());
    let copy = published(&remote, &broker, &event).await;
    remote.deliver(&remote.published(0, 0));
    remote.deliver(&copy);
    assert_eq!(drain(&mut subscription).await, ["1"]);
    assert_eq!(broker.counters().echoes_dropped, 2);
}

#[tokio::test]
async fn a_subscriber_gets_the_remote_copy_of_what_was_published_before_it_came() {
    let remote = Scripted::new();
    let broker = hybrid(&remote);
    let copy = published(&remote, &broker, &event("1", "a")).await;
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    remote.deliver(&copy);
    assert_eq!(drain(&mut subscription).await, ["1"]);
}

#[tokio::test]
async fn an_echo_of_another_process_is_delivered() {
    let remote = Scripted::new();
    let (here, there) = (hybrid(&remote), hybrid(&remote));
    let mut subscription = here.subscribe(broadcast()).await.unwrap();
    let copy = published(&remote, &there, &event("1", "a")).await;
    remote.deliver(&copy);
    assert_eq!(drain(&mut subscription).await, ["1"]);
    assert_eq!(here.counters().echoes_dropped, 0);
}

#[tokio::test]
async fn a_dropped_echo_is_acknowledged() {
    let remote = Scripted::new();
    let broker = hybrid(&remote);
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    let copy = published(&remote, &broker, &event("1", "a")).await;
    remote.deliver(&copy);
    assert_eq!(drain(&mut subscription).await, ["1"]);
    assert!(next_now(&mut subscription).await.is_none());
    let state = remote.state();
    assert_eq!((state.acked.len(), state.released.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_with_refused_copies_every_event_arrives_exactly_once() {
    const EVENTS: usize = 500;
    let local = MemoryBroker::new(MemoryConfig::default().with_buffer(2));
    let broker = HybridBroker::new(local, memory(), always(Route::Both));
    let mut subscription = broker.subscribe(broadcast()).await.unwrap();
    let publish = |publisher: usize| {
        let broker = broker.clone();
        let options = PublishOptions::default().with_timeout(Duration::ZERO);
        tokio::spawn(async move {
            for n in 0..EVENTS {
                let event = event(&format!("{publisher}-{n}"), &publisher.to_string());
                assert!(broker.publish(std::slice::from_ref(&event), &options).await.is_ok());
            }
        })
    };
    let publishers: Vec<_> = (0..4).map(publish).collect();
    let mut seen = HashSet::new();
    while seen.len() < 4 * EVENTS {
        let delivery = subscription.next().await.unwrap().unwrap();
        assert!(seen.insert(delivery.event().id().clone()), "twice: {delivery:?}");
        delivery.ack().await.unwrap();
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert!(next_now(&mut subscription).await.is_none());
    let counters = broker.counters();
    assert_eq!(counters.routed_both, 4 * EVENTS as u64);
    assert_eq!(counters.echoes_dropped + counters.local_copies_refused, 4 * EVENTS as u64);
}
