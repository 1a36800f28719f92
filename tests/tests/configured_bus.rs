//! A bus as its configuration says: every text goes through `from_config`, and what it asks for is seen
//! in what the bus does.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper of a test fails the test where it panics"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Barrier, mpsc};
use tokio::time::Instant;
use trunkline::prelude::*;
use trunkline::{Assembled, DeadLetterFilter, FailureCause, Position, ReadAll, StoredDeadLetter};

const SOON: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.placed", key = customer)]
struct OrderPlaced {
    customer: String,
    number: u32,
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.shipped")]
struct OrderShipped {
    number: u32,
}

fn placed(number: u32) -> OrderPlaced {
    OrderPlaced { customer: format!("customer-{number}"), number }
}

async fn bus(text: &str) -> EventBus {
    let config = Config::from_str(text, "test.toml").unwrap();
    EventBus::from_config(&config).await.unwrap()
}

type Numbers = mpsc::UnboundedReceiver<u32>;

/// A consumer of `OrderPlaced` that tells the numbers it handles.
fn telling(consumer: Consumer) -> (Consumer, Numbers) {
    let (seen, numbers) = mpsc::unbounded_channel();
    let consumer = consumer.on(move |order: Typed<OrderPlaced>| {
        let seen = seen.clone();
        async move { seen.send(order.number).unwrap() }
    });
    (consumer, numbers)
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(SOON, receiver.recv()).await;
    next.expect("an event comes soon").expect("the consumer lives")
}

async fn stored(bus: &EventBus) -> usize {
    let store = bus.store().expect("the configuration asks for a store");
    store.read_all(&ReadAll::after(Position::START)).await.unwrap().events.len()
}

/// The first dead letter.
async fn letter(bus: &EventBus) -> StoredDeadLetter {
    let admin = bus.broker().admin().unwrap();
    let found = async {
        loop {
            let letters = admin.dead_letters(&DeadLetterFilter::default()).await.unwrap();
            if let Some(letter) = letters.into_iter().next() {
                return letter;
            }
            // A paused clock only goes on while everything waits for it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SOON, found).await.expect("a dead letter comes soon")
}

/// A SQLite store in a directory that lives as long as the test.
fn sqlite(directory: &tempfile::TempDir) -> String {
    let file = directory.path().join("events.db");
    format!("[store]\ntype = \"sqlite\"\nurl = \"sqlite://{}\"\n", file.display())
}

#[tokio::test]
async fn an_empty_configuration_is_a_bus_in_memory_without_a_store() {
    let bus = bus("").await;
    assert_eq!(bus.broker().capabilities().name, "memory");
    assert!(bus.store().is_none());
    let (billing, mut numbers) = telling(Consumer::group("billing"));
    bus.subscribe(billing).await.unwrap();
    bus.publish(placed(1)).await.unwrap();
    assert_eq!(next(&mut numbers).await, 1);
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_hybrid_routes_as_its_rules_say_and_its_handlers_do_not_notice() {
    let text = r#"
        [broker]
        type = "hybrid"
        [broker.remote]
        type = "memory"
        [routing]
        local_types = ["OrderPlaced"]
        default = "remote"
    "#;
    let config = Config::from_str(text, "test.toml").unwrap();
    let Assembled { bus, hybrid, .. } = Assembled::from_config(&config).await.unwrap();
    let (billing, mut numbers) = telling(Consumer::group("billing"));
    let (seen, mut shipped) = mpsc::unbounded_channel();
    let billing = billing.on(move |order: Typed<OrderShipped>| {
        let seen = seen.clone();
        async move { seen.send(order.number).unwrap() }
    });
    bus.subscribe(billing).await.unwrap();
    bus.publish(placed(1)).await.unwrap();
    bus.publish(OrderShipped { number: 2 }).await.unwrap();
    assert_eq!((next(&mut numbers).await, next(&mut shipped).await), (1, 2));
    let counters = hybrid.unwrap().counters();
    assert_eq!((counters.routed_local, counters.routed_remote), (1, 1));
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_sqlite_store_has_what_was_published_by_an_earlier_bus() {
    let directory = tempfile::tempdir().unwrap();
    let text = sqlite(&directory) + "[channels.orders]\ntopics = [\"#\"]\nconsumers = [\"a\"]\n";
    let earlier = bus(&text).await;
    let id = earlier.publish(placed(1)).await.unwrap();
    earlier.close(SOON).await.unwrap();
    let later = bus(&text).await;
    let store = later.store().unwrap();
    let page = store.read_all(&ReadAll::after(Position::START)).await.unwrap();
    let found: Vec<_> =
        page.events.iter().map(|known| (known.event.id(), &*known.stream)).collect();
    assert_eq!(found, [(&id, "orders.placed/customer-1")]);
    later.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_group_that_a_channel_names_gets_what_was_published_before_it_had_a_member() {
    let hybrid = "[broker]\ntype = \"hybrid\"\nremote.type = \"memory\"\n";
    for broker in ["", hybrid] {
        let channel = "[channels.orders]\ntopics = [\"orders.#\"]\nconsumers = [\"audit\"]\n";
        let bus = bus(&format!("{broker}{channel}")).await;
        for number in [1, 2] {
            bus.publish(placed(number)).await.unwrap();
        }
        let (audit, mut numbers) = telling(Consumer::group("audit"));
        bus.subscribe(audit).await.unwrap();
        let mut both = [next(&mut numbers).await, next(&mut numbers).await];
        both.sort_unstable();
        assert_eq!(both, [1, 2], "{broker}");
        bus.close(SOON).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_says_how_often_and_after_which_waits_a_failed_event_is_tried() {
    let bus = bus(r##"
        [channels.orders]
        topics = ["orders.#"]
        retry = { attempts = 3, backoff = "linear", initial_delay_ms = 100, jitter = false }
    "##)
    .await;
    let (seen, mut runs) = mpsc::unbounded_channel();
    let failing = Consumer::group("billing").on(move |_: Typed<OrderPlaced>| {
        seen.send(Instant::now()).unwrap();
        std::future::ready(Err::<(), _>(std::io::Error::other("no ink")))
    });
    bus.subscribe(failing).await.unwrap();
    bus.publish(placed(1)).await.unwrap();
    let (first, second, third) =
        (next(&mut runs).await, next(&mut runs).await, next(&mut runs).await);
    // The clock of the runtime ticks in milliseconds.
    assert!((100..=101).contains(&(second - first).as_millis()), "{:?}", second - first);
    assert!((200..=201).contains(&(third - second).as_millis()), "{:?}", third - second);
    let letter = letter(&bus).await.letter;
    assert_eq!((letter.cause, letter.attempts), (FailureCause::Failed, 3));
    bus.close(SOON).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_channel_limits_the_time_of_an_attempt() {
    let bus = bus(r##"
        [channels.orders]
        topics = ["orders.#"]
        timeout_ms = 50
        retry = { attempts = 1 }
    "##)
    .await;
    let stuck = Consumer::group("billing").on(|_: Typed<OrderPlaced>| std::future::pending::<()>());
    bus.subscribe(stuck).await.unwrap();
    bus.publish(placed(1)).await.unwrap();
    assert_eq!(letter(&bus).await.letter.error_kind, "timed_out");
    assert_eq!(bus.metrics().consumers[0].timed_out, 1);
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_channel_says_how_many_events_run_at_a_time() {
    let text = "[channels.orders]\ntopics = [\"orders.#\"]\nconcurrency = 3\n";
    let bus = bus(text).await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let three = Arc::new(Barrier::new(3));
    let (seen, mut done) = mpsc::unbounded_channel();
    let highest = Arc::clone(&most);
    let consumer = Consumer::group("billing").on(move |_: Typed<OrderPlaced>| {
        let (running, highest, three) =
            (Arc::clone(&running), Arc::clone(&highest), Arc::clone(&three));
        let seen = seen.clone();
        async move {
            highest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            three.wait().await;
            running.fetch_sub(1, Ordering::SeqCst);
            seen.send(()).unwrap();
        }
    });
    bus.subscribe(consumer).await.unwrap();
    for number in 0..6 {
        bus.publish(placed(number)).await.unwrap();
    }
    for _ in 0..6 {
        next(&mut done).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_channel_says_how_many_events_wait_and_what_happens_beyond() {
    let bus = bus(r##"
        [channels.orders]
        topics = ["orders.#"]
        buffer_size = 2
        on_full = "error"
    "##)
    .await;
    let (billing, mut numbers) = telling(Consumer::group("billing"));
    bus.subscribe(billing).await.unwrap();
    // The one thread is here, so that nobody takes anything out meanwhile.
    for number in [1, 2] {
        bus.publish(placed(number)).await.unwrap();
    }
    let error = bus.publish(placed(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(error.context("buffer_size"), Some("2"), "{error}");
    assert_eq!((next(&mut numbers).await, next(&mut numbers).await), (1, 2));
    bus.publish(placed(4)).await.unwrap();
    assert_eq!(next(&mut numbers).await, 4);
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_channel_says_what_happens_to_types_that_no_handler_takes() {
    let bus = bus(r##"
        [channels.orders]
        topics = ["orders.#"]
        on_unhandled = "dead_letter"
    "##)
    .await;
    let (billing, _numbers) = telling(Consumer::group("billing").topics(["orders.#"]));
    bus.subscribe(billing).await.unwrap();
    let id = bus.publish(OrderShipped { number: 1 }).await.unwrap();
    let found = letter(&bus).await;
    assert_eq!((found.event.id(), found.letter.cause), (&id, FailureCause::Unhandled));
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_channel_leaves_consumers_of_other_topics_alone() {
    let bus = bus(r##"
        [channels.returns]
        topics = ["returns.#"]
        buffer_size = 1
        on_full = "error"
    "##)
    .await;
    let (billing, mut numbers) = telling(Consumer::group("billing"));
    bus.subscribe(billing).await.unwrap();
    for number in [1, 2, 3] {
        bus.publish(placed(number)).await.unwrap();
    }
    for number in [1, 2, 3] {
        assert_eq!(next(&mut numbers).await, number);
    }
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_bus_that_is_not_enabled_does_not_start() {
    let config = Config::from_str("[bus]\nenabled = false\n", "test.toml").unwrap();
    let error = EventBus::from_config(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`bus.enabled`"), "{error}");
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_before_it_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("[bus]\nmax_event_bytes = 64\n{}", sqlite(&directory));
    let bus = bus(&text).await;
    let (billing, mut numbers) = telling(Consumer::group("billing"));
    bus.subscribe(billing).await.unwrap();
    let large = OrderPlaced { customer: "x".repeat(65), number: 1 };
    let error = bus.publish(large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(!error.is_stored() && error.to_string().contains("64"), "{error}");
    assert_eq!(stored(&bus).await, 0);
    bus.publish(placed(2)).await.unwrap();
    assert_eq!((next(&mut numbers).await, stored(&bus).await), (2, 1));
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn an_event_that_was_stored_and_not_routed_says_so_and_is_routed_by_a_retry() {
    let directory = tempfile::tempdir().unwrap();
    let bus = bus(&sqlite(&directory)).await;
    let event = Event::of(placed(1)).unwrap();
    let error = bus.publish_event(&event).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable);
    assert!(error.is_stored(), "{error}");
    assert!(error.to_string().contains("channels.*.consumers"), "{error}");
    assert_eq!(stored(&bus).await, 1);
    let (billing, mut numbers) = telling(Consumer::group("billing"));
    bus.subscribe(billing).await.unwrap();
    bus.publish_event(&event).await.unwrap();
    assert_eq!((next(&mut numbers).await, stored(&bus).await), (1, 1));
    bus.close(SOON).await.unwrap();
}
