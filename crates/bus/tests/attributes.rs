//! What the bus adds to an event, and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test where it panics")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use trunkline_bus::{Consumer, Context, EventBus};
use trunkline_core::{BatchResult, ErrorKind, Event, Topic, Typed};
use trunkline_macros::DomainEvent;
use trunkline_memory::MemoryBroker;

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.placed")]
struct OrderPlaced {
    number: u32,
}

#[derive(Debug, Serialize, Deserialize, DomainEvent)]
#[event(topic = "orders.invoiced", source = "/invoices")]
struct OrderInvoiced {
    number: u32,
}

const SOON: Duration = Duration::from_secs(10);

/// A bus, and every event that was published on it.
async fn listening(source: &str) -> (EventBus, mpsc::UnboundedReceiver<Event>) {
    let bus = EventBus::builder(MemoryBroker::default()).source(source).start().await.unwrap();
    let (seen, events) = mpsc::unbounded_channel();
    let listener = Consumer::broadcast().topics(["#"]).on(move |event: Event| {
        let sent = seen.send(event);
        async move { sent }
    });
    bus.subscribe(listener).await.unwrap();
    (bus, events)
}

async fn next(events: &mut mpsc::UnboundedReceiver<Event>) -> Event {
    tokio::time::timeout(SOON, events.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn every_way_of_publishing_names_the_source_of_the_bus_where_there_is_none() {
    let (bus, mut events) = listening("/orders").await;
    bus.publish(OrderPlaced { number: 1 }).await.unwrap();
    bus.publish_event(&Event::of(OrderPlaced { number: 2 }).unwrap()).await.unwrap();
    let batch = [Event::of(OrderPlaced { number: 3 }).unwrap()];
    assert!(BatchResult::is_ok(&bus.publish_many(&batch).await));
    for _ in 0..3 {
        assert_eq!(next(&mut events).await.attributes().source(), "/orders");
    }
    bus.publish(OrderInvoiced { number: 4 }).await.unwrap();
    assert_eq!(next(&mut events).await.attributes().source(), "/invoices");
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn an_event_built_in_a_handler_joins_the_trace_of_its_cause() {
    let (bus, mut events) = listening("/orders").await;
    let invoicing =
        Consumer::group("invoicing").on(|order: Typed<OrderPlaced>, context: Context| async move {
            let invoice = Event::of(OrderInvoiced { number: order.number })?;
            context.bus()?.publish_event(&invoice).await
        });
    bus.subscribe(invoicing).await.unwrap();
    bus.publish(OrderPlaced { number: 1 }).await.unwrap();
    let (cause, invoice) = (next(&mut events).await, next(&mut events).await);
    let (cause, invoice) = (cause.attributes(), invoice.attributes());
    assert_eq!(invoice.causation(), Some(cause.id()));
    let (origin, caused) = (cause.trace().unwrap(), invoice.trace().unwrap());
    assert_eq!(caused.trace_id(), origin.trace_id());
    assert_ne!(caused.span_id(), origin.span_id());
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn an_event_that_is_forwarded_is_not_its_own_cause() {
    const COPIES: Topic = Topic::from_static("copies");
    let (bus, mut events) = listening("/orders").await;
    let forwarding = Consumer::group("forwarding").on(
        |order: Typed<OrderPlaced>, context: Context| async move {
            let copy = order.event().amend(|attributes| {
                attributes.set_topic(COPIES);
                Ok(())
            })?;
            context.bus()?.publish_event(&copy).await
        },
    );
    bus.subscribe(forwarding).await.unwrap();
    bus.publish(OrderPlaced { number: 1 }).await.unwrap();
    let (original, copy) = (next(&mut events).await, next(&mut events).await);
    assert_eq!((copy.topic(), copy.id()), (&COPIES, original.id()));
    assert_eq!(copy.attributes().causation(), None);
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_consumer_with_two_handlers_of_one_type_is_refused() {
    let bus = EventBus::builder(MemoryBroker::default()).start().await.unwrap();
    let twice = Consumer::group("twice")
        .on(|_: Typed<OrderPlaced>| async {})
        .on(|_: Typed<OrderPlaced>| async {});
    let error = bus.subscribe(twice).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`OrderPlaced`"), "{error}");
    let apart = Consumer::group("apart")
        .on(|_: Typed<OrderPlaced>| async {})
        .on(|_: Typed<OrderPlaced>| async {})
        .versions(2..=3);
    bus.subscribe(apart).await.unwrap();
    let early = Consumer::group("early").versions(1..=2).on(|_: Typed<OrderPlaced>| async {});
    assert_eq!(bus.subscribe(early).await.unwrap_err().kind(), ErrorKind::Invalid);
    bus.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_source_that_is_no_attribute_is_refused_at_the_start() {
    let error = EventBus::builder(MemoryBroker::default()).source("").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
