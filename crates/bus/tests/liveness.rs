//! A consumer goes on whatever its handlers do, and comes to an end when it is told to.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use trunkline_bus::{Consumer, ConsumerHandle, Context, EventBus, RetryPolicy};
use trunkline_core::{Data, DeadLetterFilter, ErrorKind, Event, StoredDeadLetter, Topic};
use trunkline_memory::MemoryBroker;

const SOON: Duration = Duration::from_secs(10);

#[expect(clippy::needless_pass_by_value, reason = "a number or a text, plain at the call")]
fn event(id: impl ToString, key: &str) -> Event {
    let topic = Topic::from_static("jobs");
    Event::from_data("T", topic, Data::json("1")).id(id.to_string()).key(key).build().unwrap()
}

async fn bus() -> EventBus {
    EventBus::builder(MemoryBroker::default()).start().await.unwrap()
}

fn jobs() -> Consumer {
    Consumer::group("jobs").topics(["#"]).retry(RetryPolicy::attempts(1))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("nothing has to be waited for")
}

async fn dead_letters(bus: &EventBus) -> Vec<StoredDeadLetter> {
    let admin = bus.broker().admin().unwrap();
    admin.dead_letters(&DeadLetterFilter::default()).await.unwrap()
}

#[tokio::test]
async fn an_idle_worker_gets_the_next_event_while_all_others_are_long_at_work() {
    let bus = bus().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let end = Arc::new(Notify::new());
    let ended = Arc::clone(&end);
    let consumer = jobs().concurrency(8).prefetch(8).on(move |event: Event| {
        let (started, ended) = (started.clone(), Arc::clone(&ended));
        async move {
            started.send(event.id().to_string()).unwrap();
            if event.id().to_string().starts_with("long") {
                ended.notified().await;
            }
        }
    });
    bus.subscribe(consumer).await.unwrap();
    let mut events: Vec<_> = (0..7).map(|n| event(format!("long-{n}"), &n.to_string())).collect();
    events.extend([event("short", "short"), event("last", "last")]);
    bus.publish_many(&events).await.into_result().unwrap();
    while soon(starts.recv()).await.unwrap() != "last" {}
    end.notify_waiters();
    bus.close(SOON).await.unwrap();
}

/// A value that a handler holds, and that must not take the worker with it.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_handler_that_panics_in_a_drop_has_failed_and_nothing_else() {
    let bus = bus().await;
    let (handled, mut ids) = mpsc::unbounded_channel();
    let consumer = jobs().timeout(Duration::from_secs(1)).on(move |event: Event| {
        let handled = handled.clone();
        async move {
            if event.id().to_string() == "bad" {
                let _held = PanicsWhenDropped;
                std::future::pending::<()>().await;
            }
            handled.send(event.id().to_string()).unwrap();
        }
    });
    bus.subscribe(consumer).await.unwrap();
    let events = [event("bad", "k"), event("good", "k")];
    bus.publish_many(&events).await.into_result().unwrap();
    assert_eq!(soon(ids.recv()).await.unwrap(), "good");
    let letters = dead_letters(&bus).await;
    assert_eq!((letters.len(), letters[0].event.id()), (1, events[0].id()));
    bus.close(SOON).await.unwrap();
}

/// An error that cannot say what it is.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Unspeakable {}

#[tokio::test]
async fn an_error_that_panics_when_it_is_written_is_a_failure_like_any_other() {
    let bus = bus().await;
    let (handled, mut ids) = mpsc::unbounded_channel();
    let consumer = jobs().on(move |event: Event| {
        let handled = handled.clone();
        async move {
            if event.id().to_string() == "bad" {
                return Err(Unspeakable);
            }
            handled.send(event.id().to_string()).unwrap();
            Ok(())
        }
    });
    bus.subscribe(consumer).await.unwrap();
    let events = [event("bad", "k"), event("good", "k")];
    bus.publish_many(&events).await.into_result().unwrap();
    assert_eq!(soon(ids.recv()).await.unwrap(), "good");
    let letters = dead_letters(&bus).await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].letter.error_text.contains("panicked"));
    bus.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_closed_as_soon_as_it_is_there_comes_to_an_end() {
    let bus = bus().await;
    for _ in 0..500 {
        let consumer = bus.subscribe(jobs().on(|_: Event| async {})).await.unwrap();
        soon(consumer.unsubscribe(SOON)).await.unwrap();
    }
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_a_close_has_cancelled_is_not_in_flight_any_more() {
    let bus = bus().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let consumer = jobs().on(move |_: Event| {
        let started = started.clone();
        async move {
            started.send(()).unwrap();
            std::future::pending::<()>().await;
        }
    });
    bus.subscribe(consumer).await.unwrap();
    bus.publish_event(&event(1, "k")).await.unwrap();
    soon(starts.recv()).await.unwrap();
    assert_eq!(bus.metrics().consumers[0].in_flight, 1);
    let error = bus.close(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(bus.metrics().consumers[0].in_flight, 0);
}

#[tokio::test]
async fn a_handler_that_drops_the_last_bus_gives_its_event_back() {
    let broker = MemoryBroker::default();
    let bus = EventBus::builder(broker.clone()).start().await.unwrap();
    let (holding, mut holds) = mpsc::unbounded_channel();
    let dropped = Arc::new(Notify::new());
    let told = Arc::clone(&dropped);
    let consumer = jobs().on(move |_: Event, context: Context| {
        let (holding, told) = (holding.clone(), Arc::clone(&told));
        async move {
            let bus = context.bus().unwrap();
            holding.send(()).unwrap();
            told.notified().await;
            drop(bus);
            std::future::pending::<()>().await;
        }
    });
    bus.subscribe(consumer).await.unwrap();
    bus.publish_event(&event(1, "k")).await.unwrap();
    soon(holds.recv()).await.unwrap();
    drop(bus);
    dropped.notify_one();
    let admin = trunkline_core::Broker::admin(&broker).unwrap();
    soon(async {
        loop {
            let group = admin.groups().await.unwrap().remove(0);
            if (group.members, group.in_flight, group.lag) == (0, 0, 1) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_for_its_own_consumer_to_leave_is_cancelled_at_the_deadline() {
    let bus = bus().await;
    let own: Arc<OnceLock<ConsumerHandle>> = Arc::default();
    let known = Arc::clone(&own);
    let (started, mut starts) = mpsc::unbounded_channel();
    let consumer = jobs().on(move |_: Event| {
        let (own, started) = (Arc::clone(&known), started.clone());
        async move {
            started.send(()).unwrap();
            own.get().unwrap().unsubscribe(Duration::from_secs(1)).await
        }
    });
    let handle = bus.subscribe(consumer).await.unwrap();
    own.set(handle).unwrap();
    bus.publish_event(&event(1, "k")).await.unwrap();
    soon(starts.recv()).await.unwrap();
    soon(own.get().unwrap().unsubscribe(SOON)).await.unwrap();
    let group = bus.broker().admin().unwrap().groups().await.unwrap().remove(0);
    assert_eq!((group.members, group.in_flight, group.lag), (0, 0, 1));
}
