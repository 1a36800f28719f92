//! Publishing and handling over the memory broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use trunkline_bus::{Consumer, Context, EventBus, RetryPolicy, plain};
use trunkline_core::{
    Broker as _, DeadLetterFilter, ErrorKind, Event, EventId, Health, HealthStatus, OnFull, Typed,
};
use trunkline_macros::DomainEvent;
use trunkline_memory::MemoryBroker;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.placed", key = customer)]
struct OrderPlaced {
    customer: String,
    number: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.invoiced")]
struct OrderInvoiced {
    number: u32,
}

fn placed(customer: &str, number: u32) -> OrderPlaced {
    OrderPlaced { customer: customer.to_owned(), number }
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_published_value_reaches_its_handler() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let (seen, mut numbers) = mpsc::unbounded_channel();
    let billing = Consumer::group("billing").on(move |order: Typed<OrderPlaced>| {
        let seen = seen.clone();
        async move { seen.send(order.number).unwrap() }
    });
    bus.subscribe(billing).await.unwrap();
    bus.publish(placed("ann", 7)).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, numbers.recv()).await.unwrap(), Some(7));
    bus.close(SOON).await.unwrap();
    assert_eq!(bus.metrics().consumers[0].handled, 1);
}

#[tokio::test]
async fn what_a_handler_publishes_is_caused_by_what_it_handles() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let (seen, mut events) = mpsc::unbounded_channel();
    let orders =
        Consumer::group("orders").on(|order: Typed<OrderPlaced>, context: Context| async move {
            context.bus()?.publish(OrderInvoiced { number: order.number }).await.map(drop)
        });
    let invoices = Consumer::group("invoices").on(move |invoice: Typed<OrderInvoiced>| {
        let seen = seen.clone();
        async move { seen.send(invoice.event().clone()).unwrap() }
    });
    bus.subscribe(orders).await.unwrap();
    bus.subscribe(invoices).await.unwrap();
    let cause = bus.publish(placed("ann", 7)).await.unwrap();
    let caused = tokio::time::timeout(SOON, events.recv()).await.unwrap().unwrap();
    assert_eq!(caused.attributes().causation(), Some(&cause));
    assert_eq!(caused.attributes().correlation(), Some(&cause));
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_failing_event_is_tried_as_often_as_its_policy_says_and_then_dead_lettered() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let failing = Consumer::group("billing").retry(RetryPolicy::attempts(3)).on(
        move |_: Typed<OrderPlaced>| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                Err::<(), _>(std::io::Error::other("no ink"))
            }
        },
    );
    bus.subscribe(failing).await.unwrap();
    let id: EventId = bus.publish(placed("ann", 7)).await.unwrap();
    let admin = bus.broker().admin().unwrap();
    let letter = tokio::time::timeout(SOON, async {
        loop {
            let letters = admin.dead_letters(&DeadLetterFilter::default()).await.unwrap();
            if let Some(letter) = letters.into_iter().next() {
                break letter;
            }
            tokio::task::yield_now().await;
        }
    });
    let letter = letter.await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    assert_eq!((letter.event.id(), letter.letter.attempts), (&id, 3));
    assert!(letter.letter.error_text.contains("no ink"), "{}", letter.letter.error_text);
    bus.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_keep_their_order_with_many_workers() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let (seen, mut orders) = mpsc::unbounded_channel();
    let consumer =
        Consumer::group("billing").concurrency(16).on(move |order: Typed<OrderPlaced>| {
            let seen = seen.clone();
            async move {
                tokio::task::yield_now().await;
                seen.send((*order).clone()).unwrap();
            }
        });
    bus.subscribe(consumer).await.unwrap();
    for number in 0..2_000 {
        bus.publish(placed(&format!("customer-{}", number % 50), number)).await.unwrap();
    }
    let mut last = std::collections::HashMap::new();
    for _ in 0..2_000 {
        let order = tokio::time::timeout(SOON, orders.recv()).await.unwrap().unwrap();
        let before = last.insert(order.customer.clone(), order.number);
        assert!(before < Some(order.number), "{order:?} after {before:?}");
    }
    bus.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_function_runs_off_the_async_threads_and_can_publish() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let (seen, mut events) = mpsc::unbounded_channel();
    let plain_handler = plain(|order: Typed<OrderPlaced>| -> trunkline_core::Result<()> {
        let context = Context::current().expect("a handler is running");
        context.bus()?.publish_blocking(OrderInvoiced { number: order.number }).map(drop)
    });
    bus.subscribe(Consumer::group("orders").on(plain_handler)).await.unwrap();
    let invoices =
        Consumer::group("invoices").topics(["orders.invoiced"]).on(move |event: Event| {
            let seen = seen.clone();
            async move { seen.send(event.attributes().causation().cloned()).unwrap() }
        });
    bus.subscribe(invoices).await.unwrap();
    let cause = bus.publish(placed("ann", 7)).await.unwrap();
    let causation = tokio::time::timeout(SOON, events.recv()).await.unwrap().unwrap();
    assert_eq!(causation, Some(cause));
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn two_consumers_of_a_group_must_handle_the_same_types() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let orders = || Consumer::group("all").on(|_: Typed<OrderPlaced>| async {});
    bus.subscribe(orders()).await.unwrap();
    bus.subscribe(orders()).await.unwrap();
    let other = Consumer::group("all").on(|_: Typed<OrderInvoiced>| async {});
    let error = bus.subscribe(other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_handler_waits_for_room_in_a_group_of_the_same_name_in_another_bus() {
    let near = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let far = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let (seen, mut numbers) = mpsc::unbounded_channel();
    let far_orders = || {
        let seen = seen.clone();
        let handler = move |invoice: Typed<OrderInvoiced>| {
            let sent = seen.send(invoice.number);
            async move { sent }
        };
        Consumer::group("orders").buffer(1, OnFull::Block).on(handler)
    };
    // The group stays when its only member leaves, and one event fills it.
    let member = far.subscribe(far_orders()).await.unwrap();
    member.unsubscribe(SOON).await.unwrap();
    far.publish(OrderInvoiced { number: 1 }).await.unwrap();
    let (entered, mut handling) = mpsc::unbounded_channel();
    let elsewhere = far.clone();
    let near_orders = Consumer::group("orders").retry(RetryPolicy::attempts(1)).on(
        move |order: Typed<OrderPlaced>| {
            let (elsewhere, entered) = (elsewhere.clone(), entered.clone());
            async move {
                entered.send(()).unwrap();
                elsewhere.publish(OrderInvoiced { number: order.number }).await.map(drop)
            }
        },
    );
    near.subscribe(near_orders).await.unwrap();
    near.publish(placed("ann", 2)).await.unwrap();
    handling.recv().await.unwrap();
    far.subscribe(far_orders()).await.unwrap();
    for expected in [1, 2] {
        let number = tokio::time::timeout(SOON, numbers.recv()).await.unwrap();
        assert_eq!(number, Some(expected));
    }
    near.close(SOON).await.unwrap();
    far.close(SOON).await.unwrap();
    assert_eq!(near.metrics().consumers[0].dead_lettered, 0);
}

#[tokio::test]
async fn a_consumer_whose_subscription_ended_by_itself_shows_in_health() {
    let broker = MemoryBroker::default();
    let bus = EventBus::builder(broker.clone()).start().await.unwrap();
    bus.subscribe(Consumer::group("orders").on(|_: Typed<OrderPlaced>| async {})).await.unwrap();
    assert_eq!(bus.health().await.status, HealthStatus::Up);
    // Closed behind the back of the bus.
    broker.close(SOON).await.unwrap();
    let told = tokio::time::timeout(SOON, async {
        let is_told =
            |health: Health| health.facts.iter().any(|(name, _)| name == "consumer orders");
        while !is_told(bus.health().await) {
            tokio::task::yield_now().await;
        }
    });
    told.await.unwrap();
    bus.close(SOON).await.unwrap();
}
