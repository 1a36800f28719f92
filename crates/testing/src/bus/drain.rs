//! Closing, leaving and vanishing: what runs is finished, what was not started goes back uncounted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{try_join, try_join3};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use trunkline_bus::{ConsumerHandle, Context, EventBus, RetryPolicy, plain};
use trunkline_core::{Broker, ErrorKind, Topic, Typed};

use super::stage::{Log, Seen, Step, log, publish, spread_steps, step, steps};
use crate::broker::{BrokerProperty, Need, PAUSE, SOON, Subject, eventually, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::DeadLetters];

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(an_event_is_acknowledged_only_after_its_handler_has_finished).needs(NEEDS),
        promise!(a_bus_that_vanishes_gives_back_what_it_ran_uncounted).needs(NEEDS),
        promise!(close_waits_for_running_handlers).needs(NEEDS),
        promise!(close_waits_for_plain_functions).needs(NEEDS),
        promise!(close_gives_back_what_was_not_started_uncounted).needs(NEEDS),
        promise!(close_past_its_deadline_cancels_and_gives_back_uncounted).needs(NEEDS),
        promise!(a_plain_function_past_the_deadline_keeps_its_key_until_it_returns).needs(NEEDS),
        promise!(close_again_and_at_once_is_fine).needs(NEEDS),
        promise!(a_close_that_is_given_up_cancels_nothing_and_can_be_asked_for_again).needs(NEEDS),
        promise!(a_closed_bus_refuses_to_publish_and_to_subscribe).needs(NEEDS),
        promise!(a_consumer_that_unsubscribes_leaves_its_group_and_what_waits).needs(NEEDS),
        promise!(a_clean_stop_under_load_loses_and_doubles_nothing).needs(NEEDS),
    ]
}

/// One run of a handler: who ran it, the number and the attempt.
type Run = (&'static str, u64, u32);

/// Subscribes a handler that writes its run down and then waits at the gate.
async fn subscribe_gated<B: Broker>(
    subject: &Subject<B>,
    bus: &EventBus,
    topic: &Topic,
    name: &'static str,
    gate: (Log<Run>, Arc<Semaphore>),
) -> Result<ConsumerHandle, Failure> {
    let consumer = subject.consumer("g", topic)?.retry(RetryPolicy::attempts(1));
    let consumer = consumer.on(move |step: Typed<Step>, context: Context| {
        let (log, gate) = gate.clone();
        async move {
            log.note((name, step.number, context.attempt()));
            // Closed gates let everything through.
            gate.acquire().await.map(|permit| permit.forget()).or(Ok::<_, std::io::Error>(()))
        }
    });
    Ok(bus.subscribe(consumer).await?)
}

fn gate(open: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(open))
}

/// A second process takes over and must run these numbers, each as the first attempt.
async fn ensure_taken_over<B: Broker>(
    subject: &Subject<B>,
    topic: &Topic,
    log: Log<Run>,
    seen: &mut Seen<Run>,
    numbers: std::ops::Range<u64>,
) -> Check {
    let second = subject.bus().await?;
    subscribe_gated(subject, &second, topic, "second", (log, gate(1_000))).await?;
    for wanted in numbers {
        ensure_eq!(seen.next().await?, ("second", wanted, 1), "the next run");
    }
    subject.settled("g").await?;
    seen.nothing().await?;
    ensure!(subject.letters("g").await?.is_empty(), "stopping made a dead letter");
    Ok(())
}

async fn an_event_is_acknowledged_only_after_its_handler_has_finished<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen), gate) = (subject.bus().await?, log(), gate(0));
    let handle = subscribe_gated(&subject, &bus, &topic, "first", (log, Arc::clone(&gate))).await?;
    publish(&bus, &[step(&topic, Some("k"), 0)?]).await?;
    seen.next().await?;
    let out = || async { Ok(subject.info("g").await?.is_some_and(|info| info.in_flight == 1)) };
    eventually(SOON, "one event is out while its handler runs", out).await?;
    ensure_eq!(handle.metrics().in_flight, 1, "what the bus counts as running");
    gate.add_permits(1);
    subject.settled("g").await?;
    seen.nothing().await
}

async fn a_bus_that_vanishes_gives_back_what_it_ran_uncounted<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (first, (log, mut seen), gate) = (subject.bus().await?, log(), gate(0));
    subscribe_gated(&subject, &first, &topic, "first", (log.clone(), gate)).await?;
    publish(&first, &steps(&topic, "k", 0..3)?).await?;
    ensure_eq!(seen.next().await?, ("first", 0, 1), "the first run");
    drop(first);
    ensure_taken_over(&subject, &topic, log, &mut seen, 0..3).await
}

async fn close_waits_for_running_handlers<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen), gate) = (subject.bus().await?, log(), gate(0));
    let handle = subscribe_gated(&subject, &bus, &topic, "first", (log, Arc::clone(&gate))).await?;
    publish(&bus, &[step(&topic, Some("k"), 0)?]).await?;
    seen.next().await?;
    let mut closing = std::pin::pin!(bus.close(SOON));
    let early = timeout(PAUSE, closing.as_mut()).await;
    ensure!(early.is_err(), "close ended while a handler ran: {early:?}");
    gate.add_permits(1);
    closing.await?;
    ensure_eq!(handle.metrics().handled, 1, "what was handled");
    subject.settled("g").await
}

/// A plain handler that writes its number down and then blocks until the sender is dropped.
async fn subscribe_blocking<B: Broker>(
    subject: &Subject<B>,
    bus: &EventBus,
    topic: &Topic,
    log: Log<Run>,
) -> Result<(ConsumerHandle, std::sync::mpsc::Sender<()>), Failure> {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let handler = plain(move |step: Typed<Step>| {
        log.note(("plain", step.number, 1));
        let released = released.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // An error says that the sender is gone: that is the signal.
        released.recv().unwrap_or_default();
    });
    let handle = bus.subscribe(subject.consumer("g", topic)?.on(handler)).await?;
    Ok((handle, release))
}

async fn close_waits_for_plain_functions<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let (handle, release) = subscribe_blocking(&subject, &bus, &topic, log).await?;
    publish(&bus, &[step(&topic, Some("k"), 0)?]).await?;
    seen.next().await?;
    let mut closing = std::pin::pin!(bus.close(SOON));
    let early = timeout(PAUSE, closing.as_mut()).await;
    ensure!(early.is_err(), "close ended while a plain function ran: {early:?}");
    drop(release);
    closing.await?;
    ensure_eq!(handle.metrics().handled, 1, "what was handled");
    subject.settled("g").await
}

async fn close_gives_back_what_was_not_started_uncounted<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (first, (log, mut seen), gate) = (subject.bus().await?, log(), gate(0));
    let gated = (log.clone(), Arc::clone(&gate));
    let handle = subscribe_gated(&subject, &first, &topic, "first", gated).await?;
    publish(&first, &steps(&topic, "k", 0..10)?).await?;
    ensure_eq!(seen.next().await?, ("first", 0, 1), "the first run");
    let prefetched = || async { Ok(handle.metrics().delivered > 1) };
    eventually(SOON, "something is prefetched", prefetched).await?;
    let opening = async {
        tokio::task::yield_now().await;
        gate.add_permits(1);
        Check::Ok(())
    };
    let closing = async { Ok(first.close(SOON).await?) };
    try_join(closing, opening).await?;
    ensure_taken_over(&subject, &topic, log, &mut seen, 1..10).await
}

async fn close_past_its_deadline_cancels_and_gives_back_uncounted<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (first, (log, mut seen), gate) = (subject.bus().await?, log(), gate(0));
    subscribe_gated(&subject, &first, &topic, "first", (log.clone(), gate)).await?;
    publish(&first, &steps(&topic, "k", 0..3)?).await?;
    ensure_eq!(seen.next().await?, ("first", 0, 1), "the first run");
    match first.close(PAUSE).await {
        Err(error) => ensure_eq!(error.kind(), ErrorKind::TimedOut, "the kind of `{error}`"),
        Ok(()) => ensure!(false, "close says that all went well, and a handler was cancelled"),
    }
    ensure_taken_over(&subject, &topic, log, &mut seen, 0..3).await
}

async fn a_plain_function_past_the_deadline_keeps_its_key_until_it_returns<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (first, (log, mut seen)) = (subject.bus().await?, log());
    let (_handle, release) = subscribe_blocking(&subject, &first, &topic, log.clone()).await?;
    publish(&first, &steps(&topic, "k", 0..3)?).await?;
    ensure_eq!(seen.next().await?, ("plain", 0, 1), "the first run");
    match first.close(PAUSE).await {
        Err(error) => ensure_eq!(error.kind(), ErrorKind::TimedOut, "the kind of `{error}`"),
        Ok(()) => ensure!(false, "close says that all went well, and a function still runs"),
    }
    let second = subject.bus().await?;
    subscribe_gated(&subject, &second, &topic, "second", (log, gate(1_000))).await?;
    // Longer than anybody would wait for a member that is gone.
    let bound = if subject.is_in_process() { PAUSE } else { subject.hooks.takeover()? };
    seen.nothing_for(bound + PAUSE).await?;
    drop(release);
    // It has returned and its acknowledgement has landed.
    for wanted in 1..3 {
        ensure_eq!(seen.next().await?, ("second", wanted, 1), "the next run");
    }
    seen.nothing().await
}

async fn close_again_and_at_once_is_fine<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen), gate) = (subject.bus().await?, log(), gate(0));
    let handle = subscribe_gated(&subject, &bus, &topic, "first", (log, Arc::clone(&gate))).await?;
    publish(&bus, &[step(&topic, Some("k"), 0)?]).await?;
    seen.next().await?;
    gate.close();
    let clone = bus.clone();
    try_join3(bus.close(SOON), clone.close(SOON), handle.unsubscribe(SOON)).await?;
    bus.close(SOON).await?;
    handle.unsubscribe(SOON).await?;
    ensure_eq!(handle.metrics().handled, 1, "what was handled");
    Ok(())
}

async fn a_close_that_is_given_up_cancels_nothing_and_can_be_asked_for_again<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen), gate) = (subject.bus().await?, log(), gate(0));
    let handle = subscribe_gated(&subject, &bus, &topic, "first", (log, Arc::clone(&gate))).await?;
    publish(&bus, &[step(&topic, Some("k"), 0)?]).await?;
    seen.next().await?;
    let early = timeout(PAUSE, bus.close(SOON)).await;
    ensure!(early.is_err(), "close ended while a handler ran: {early:?}");
    ensure_eq!(handle.metrics().in_flight, 1, "what runs after the close was given up");
    gate.add_permits(1);
    bus.close(SOON).await?;
    ensure_eq!(handle.metrics().handled, 1, "what was handled");
    subject.settled("g").await?;
    seen.nothing().await
}

async fn a_closed_bus_refuses_to_publish_and_to_subscribe<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    // Over the broker itself, which closes with its bus.
    let bus = EventBus::builder(Arc::clone(&subject.broker)).start().await?;
    bus.subscribe(subject.consumer("g", &topic)?.on(|_: Typed<Step>| async {})).await?;
    bus.close(SOON).await?;
    match bus.publish_event(&step(&topic, None, 0)?).await {
        Err(error) => ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of `{error}`"),
        Ok(()) => ensure!(false, "a closed bus accepted an event"),
    }
    let consumer = subject.consumer("h", &topic)?.on(|_: Typed<Step>| async {});
    match bus.subscribe(consumer).await {
        Err(error) => ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of `{error}`"),
        Ok(_) => ensure!(false, "a closed bus accepted a consumer"),
    }
    Ok(())
}

async fn a_consumer_that_unsubscribes_leaves_its_group_and_what_waits<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let open = (log.clone(), gate(1_000));
    let handle = subscribe_gated(&subject, &bus, &topic, "first", open).await?;
    publish(&bus, &steps(&topic, "k", 0..3)?).await?;
    for wanted in 0..3 {
        ensure_eq!(seen.next().await?, ("first", wanted, 1), "the next run");
    }
    handle.unsubscribe(SOON).await?;
    publish(&bus, &steps(&topic, "k", 3..6)?).await?;
    seen.nothing().await?;
    subscribe_gated(&subject, &bus, &topic, "again", (log, gate(1_000))).await?;
    for wanted in 3..6 {
        ensure_eq!(seen.next().await?, ("again", wanted, 1), "the next run");
    }
    seen.nothing().await
}

const KEYS: u64 = 60;
const LOAD: u64 = 3_000;

/// A process whose handlers take a different time for each event.
async fn subscribe_busy<B: Broker>(
    subject: &Subject<B>,
    topic: &Topic,
    log: &Log<(u64, u32)>,
) -> Result<EventBus, Failure> {
    let (bus, log) = (subject.bus().await?, log.clone());
    let consumer = subject.consumer("g", topic)?.concurrency(8);
    let consumer = consumer.on(move |step: Typed<Step>, context: Context| {
        let log = log.clone();
        async move {
            tokio::time::sleep(Duration::from_micros(step.number * 37 % 500)).await;
            log.note((step.number, context.attempt()));
        }
    });
    bus.subscribe(consumer).await?;
    Ok(bus)
}

async fn a_clean_stop_under_load_loses_and_doubles_nothing<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    let (one, two) = (
        subscribe_busy(&subject, &topic, &log).await?,
        subscribe_busy(&subject, &topic, &log).await?,
    );
    let publisher = subject.bus().await?;
    let publishing = async {
        for round in 0..LOAD / KEYS {
            let numbers = round * KEYS..round * KEYS + KEYS;
            publish(&publisher, &spread_steps(&topic, KEYS, numbers)?).await?;
        }
        Check::Ok(())
    };
    // While events flow one process stops, another starts, and the second one stops too.
    let stopping = async {
        let mut ran = seen.take(500).await?;
        one.close(SOON).await?;
        let three = subscribe_busy(&subject, &topic, &log).await?;
        ran.extend(seen.take(500).await?);
        two.close(SOON).await?;
        ran.extend(seen.take(usize::try_from(LOAD).unwrap_or(usize::MAX) - ran.len()).await?);
        subject.settled("g").await?;
        three.close(SOON).await?;
        Ok(ran)
    };
    let ((), ran) = try_join(publishing, stopping).await?;
    seen.nothing().await?;
    let mut due = (0..KEYS).collect::<Vec<u64>>();
    for (number, attempt) in ran {
        ensure_eq!(attempt, 1, "the attempt at number {number}");
        let due = &mut due[usize::try_from(number % KEYS).unwrap_or_default()];
        // In order and without a gap: so none is lost and none comes twice.
        ensure_eq!(number, *due, "the next number of key-{}", number % KEYS);
        *due += KEYS;
    }
    ensure!(subject.letters("g").await?.is_empty(), "stopping made a dead letter");
    Ok(())
}
