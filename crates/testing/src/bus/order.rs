//! Events of a key are handled in order and one at a time, while other keys run beside them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use trunkline_bus::{Backoff, Context, EventBus, Jitter, RetryPolicy};
use trunkline_core::{Broker, DomainEvent, Event, Order, Topic, Typed};

use super::stage::{Log, Seen, Step, log, no_ink, publish, spread_steps, step, steps};
use crate::broker::{BrokerProperty, Subject, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_key_keeps_its_order_with_sixteen_handlers_at_a_time),
        promise!(a_key_keeps_its_order_with_sixty_four_handlers_at_a_time),
        promise!(different_keys_run_at_the_same_time),
        promise!(keyless_events_run_at_the_same_time),
        promise!(a_key_never_overlaps_itself),
        promise!(without_order_one_key_runs_at_the_same_time),
        promise!(order_holds_while_a_key_is_tried_again_at_once),
        promise!(order_holds_while_a_key_waits_to_be_tried_again_and_others_flow),
        promise!(order_holds_across_members),
        promise!(order_holds_across_the_types_of_a_topic),
    ]
}

/// Gives other tasks a different number of turns for each event.
async fn dawdle(number: u64) {
    for _ in 0..(number.wrapping_mul(0x9e37) >> 3) % 4 {
        tokio::task::yield_now().await;
    }
}

/// A number and whether its handler begins (true) or ends.
type Span = (u64, bool);

/// Subscribes a handler that writes down when it begins and ends.
async fn subscribe_spans<B: Broker>(
    subject: &Subject<B>,
    bus: &EventBus,
    topic: &Topic,
    concurrency: usize,
    log: Log<Span>,
) -> Check {
    let consumer = subject.consumer("g", topic)?.concurrency(concurrency);
    let consumer = consumer.on(move |step: Typed<Step>| {
        let log = log.clone();
        async move {
            log.note((step.number, true));
            dawdle(step.number).await;
            log.note((step.number, false));
        }
    });
    bus.subscribe(consumer).await?;
    Ok(())
}

/// Checks that each key's spans follow each other, without a gap in the numbers.
async fn ensure_serial(mut seen: Seen<Span>, keys: u64, count: u64) -> Check {
    let mut due: HashMap<u64, Span> = (0..keys).map(|key| (key, (key, true))).collect();
    for _ in 0..2 * count {
        let (number, begins) = seen.next().await?;
        let wanted = due.entry(number % keys).or_insert((0, true));
        ensure_eq!((number, begins), *wanted, "the next (number, begins) of its key");
        *wanted = if begins { (number, false) } else { (number + keys, true) };
    }
    seen.nothing().await
}

async fn ensure_order<B: Broker>(subject: Subject<B>, concurrency: usize) -> Check {
    const KEYS: u64 = 50;
    let topic = subject.topic("a")?;
    let bus = subject.bus().await?;
    let (log, seen) = log();
    subscribe_spans(&subject, &bus, &topic, concurrency, log).await?;
    for round in 0..20 {
        publish(&bus, &spread_steps(&topic, KEYS, round * 100..round * 100 + 100)?).await?;
    }
    ensure_serial(seen, KEYS, 2_000).await
}

async fn a_key_keeps_its_order_with_sixteen_handlers_at_a_time<B: Broker>(
    subject: Subject<B>,
) -> Check {
    ensure_order(subject, 16).await
}

async fn a_key_keeps_its_order_with_sixty_four_handlers_at_a_time<B: Broker>(
    subject: Subject<B>,
) -> Check {
    ensure_order(subject, 64).await
}

/// Checks that 16 of these events run at once: the barrier opens only when all are there.
async fn ensure_parallel<B: Broker>(
    subject: Subject<B>,
    order: Order,
    key_of: impl Fn(u64) -> Option<String>,
) -> Check {
    const TOGETHER: usize = 16;
    let topic = subject.topic("a")?;
    let bus = subject.bus().await?;
    let (barrier, (log, mut seen)) = (Arc::new(Barrier::new(TOGETHER)), log());
    let consumer = subject.consumer("g", &topic)?.concurrency(TOGETHER).order(order);
    let consumer = consumer.on(move |step: Typed<Step>| {
        let (barrier, log) = (Arc::clone(&barrier), log.clone());
        async move {
            barrier.wait().await;
            log.note(step.number);
        }
    });
    bus.subscribe(consumer).await?;
    let events = (0..16).map(|number| step(&topic, key_of(number).as_deref(), number));
    publish(&bus, &events.collect::<Result<Vec<Event>, Failure>>()?).await?;
    let mut numbers = seen.take(TOGETHER).await?;
    numbers.sort_unstable();
    ensure_eq!(numbers, (0..16).collect::<Vec<u64>>(), "the numbers that ran");
    Ok(())
}

async fn different_keys_run_at_the_same_time<B: Broker>(subject: Subject<B>) -> Check {
    ensure_parallel(subject, Order::PerKey, |number| Some(format!("key-{number}"))).await
}

async fn keyless_events_run_at_the_same_time<B: Broker>(subject: Subject<B>) -> Check {
    ensure_parallel(subject, Order::PerKey, |_| None).await
}

async fn without_order_one_key_runs_at_the_same_time<B: Broker>(subject: Subject<B>) -> Check {
    ensure_parallel(subject, Order::None, |_| Some("k".to_owned())).await
}

async fn a_key_never_overlaps_itself<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let bus = subject.bus().await?;
    let (running, (log, mut seen)) = (Arc::new(AtomicUsize::new(0)), log());
    let consumer = subject.consumer("g", &topic)?.concurrency(32).on(move |step: Typed<Step>| {
        let (running, log) = (Arc::clone(&running), log.clone());
        async move {
            let beside = running.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            log.note((step.number, beside));
        }
    });
    bus.subscribe(consumer).await?;
    publish(&bus, &steps(&topic, "k", 0..100)?).await?;
    for wanted in 0..100 {
        ensure_eq!(seen.next().await?, (wanted, 0), "the next number, and how many ran beside it");
    }
    Ok(())
}

/// Two keys in turn: every third event of key-0 fails twice before it succeeds. Runs are checked.
async fn ensure_order_while_failing<B: Broker>(subject: Subject<B>, policy: RetryPolicy) -> Check {
    let topic = subject.topic("a")?;
    let bus = subject.bus().await?;
    let (log, mut seen) = log();
    let consumer = subject.consumer("g", &topic)?.concurrency(8).retry(policy);
    let consumer = consumer.on(move |step: Typed<Step>, context: Context| {
        let log = log.clone();
        async move {
            log.note((step.number, context.attempt()));
            let fails = step.number.is_multiple_of(6) && context.attempt() < 3;
            if fails { no_ink() } else { Ok(()) }
        }
    });
    bus.subscribe(consumer).await?;
    publish(&bus, &spread_steps(&topic, 2, 0..24)?).await?;
    let wanted = |number: u64| {
        (1..=if number.is_multiple_of(6) { 3 } else { 1 }).map(move |run| (number, run))
    };
    let wanted: Vec<(u64, u32)> = (0..24).flat_map(wanted).collect();
    let found = seen.take(wanted.len()).await?;
    for key in 0..2 {
        let of_key = |runs: &[(u64, u32)]| -> Vec<(u64, u32)> {
            runs.iter().copied().filter(|(number, _)| number % 2 == key).collect()
        };
        ensure_eq!(of_key(&found), of_key(&wanted), "the runs (number, attempt) of key-{key}");
    }
    // The key that never fails is done before the failing one: it did not wait for it.
    let last_good = found.iter().rposition(|(number, _)| number % 2 == 1);
    let last = found.iter().rposition(|(number, _)| number % 2 == 0);
    ensure!(last_good < last, "the good key ended after the failing one: {found:?}");
    seen.nothing().await
}

async fn order_holds_while_a_key_is_tried_again_at_once<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("b")?;
    let bus = subject.bus().await?;
    let (log, mut seen) = log();
    let consumer = subject.consumer("h", &topic)?.concurrency(8).retry(RetryPolicy::attempts(3));
    let consumer = consumer.on(move |step: Typed<Step>, context: Context| {
        let log = log.clone();
        async move {
            log.note((step.number, context.attempt()));
            dawdle(step.number).await;
            if context.attempt() < 3 { no_ink() } else { Ok(()) }
        }
    });
    bus.subscribe(consumer).await?;
    publish(&bus, &steps(&topic, "k", 0..20)?).await?;
    for number in 0..20 {
        for attempt in 1..=3 {
            ensure_eq!(seen.next().await?, (number, attempt), "the next (number, attempt)");
        }
    }
    seen.nothing().await
}

async fn order_holds_while_a_key_waits_to_be_tried_again_and_others_flow<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let wait = Duration::from_millis(60);
    let policy =
        RetryPolicy::attempts(3).with_backoff(Backoff::Fixed, wait, wait).with_jitter(Jitter::None);
    ensure_order_while_failing(subject, policy).await
}

async fn order_holds_across_members<B: Broker>(subject: Subject<B>) -> Check {
    const KEYS: u64 = 20;
    let topic = subject.topic("a")?;
    let (log, seen) = log();
    let buses = [subject.bus().await?, subject.bus().await?, subject.bus().await?];
    for bus in &buses {
        subscribe_spans(&subject, bus, &topic, 8, log.clone()).await?;
    }
    for round in 0..20 {
        publish(&buses[0], &spread_steps(&topic, KEYS, round * 60..round * 60 + 60)?).await?;
        tokio::task::yield_now().await;
    }
    ensure_serial(seen, KEYS, 1_200).await
}

/// Another type on the same topic.
#[derive(Debug, Serialize, Deserialize)]
struct Jump {
    number: u64,
}

impl DomainEvent for Jump {
    const TYPE: &'static str = "Jump";
    const TOPIC: Topic = Step::TOPIC;
}

async fn order_holds_across_the_types_of_a_topic<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let bus = subject.bus().await?;
    let (log, mut seen) = log();
    let (steps_log, jumps_log) = (log.clone(), log);
    let consumer = subject
        .consumer("g", &topic)?
        .concurrency(4)
        .on(move |step: Typed<Step>| {
            let log = steps_log.clone();
            async move {
                dawdle(step.number).await;
                log.note(step.number);
            }
        })
        .on(move |jump: Typed<Jump>| {
            let log = jumps_log.clone();
            async move { log.note(jump.number) }
        });
    bus.subscribe(consumer).await?;
    let event = |number: u64| match number % 3 {
        0 => Ok(Event::builder(Jump { number }).topic(topic.clone()).key("k").build()?),
        _ => step(&topic, Some("k"), number),
    };
    publish(&bus, &(0..200).map(event).collect::<Result<Vec<_>, Failure>>()?).await?;
    for wanted in 0..200 {
        ensure_eq!(seen.next().await?, wanted, "the next number of the key");
    }
    Ok(())
}
