//! A consumer that stands still costs bounded room, and its publishers are told.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use trunkline_bus::{ConsumerHandle, EventBus};
use trunkline_core::{Broker, ErrorKind, OnFull, Topic, Typed};

use super::stage::{Log, Seen, Step, log, publish, step, steps};
use crate::broker::{BrokerProperty, Need, PAUSE, SOON, Subject, elapsed_between, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::DeadLetters];

pub(super) fn in_process<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_consumer_that_stands_still_makes_its_publishers_full_and_loses_nothing)
            .needs(NEEDS),
        promise!(a_publisher_goes_on_when_a_slow_consumer_does).needs(NEEDS),
        promise!(a_slow_lossy_listener_stops_nobody).needs(&[Need::DeadLetters, Need::DropOldest]),
    ]
}

const BUFFER: usize = 8;
const PREFETCH: usize = 4;

/// A handler that waits at a gate, behind a small buffer.
struct Stuck {
    topic: Topic,
    gate: Arc<Semaphore>,
    handle: ConsumerHandle,
    seen: Seen<u64>,
}

impl Stuck {
    async fn subscribe<B: Broker>(subject: &Subject<B>, bus: &EventBus) -> Result<Self, Failure> {
        let topic = subject.topic("a")?;
        let (gate, (log, seen)) = (Arc::new(Semaphore::new(0)), log());
        let waiting = Arc::clone(&gate);
        let consumer = subject.consumer("g", &topic)?.buffer(BUFFER, OnFull::Block);
        let consumer = consumer.prefetch(PREFETCH).on(move |step: Typed<Step>| {
            let (gate, log): (Arc<Semaphore>, Log<u64>) = (Arc::clone(&waiting), log.clone());
            async move {
                // A closed gate lets everything through.
                drop(gate.acquire().await);
                log.note(step.number);
            }
        });
        let handle = bus.subscribe(consumer).await?;
        Ok(Self { topic, gate, handle, seen })
    }
}

async fn a_consumer_that_stands_still_makes_its_publishers_full_and_loses_nothing<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let bus = subject.builder().publish_timeout(PAUSE).start().await?;
    let mut stuck = Stuck::subscribe(&subject, &bus).await?;
    let mut accepted = 0;
    let refused = loop {
        match bus.publish_event(&step(&stuck.topic, None, accepted)?).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        let most = (BUFFER + PREFETCH) as u64;
        ensure!(accepted <= most, "{accepted} were accepted where {most} is room for");
    };
    ensure_eq!(refused.kind(), ErrorKind::Full, "the kind of `{refused}`");
    ensure!(stuck.handle.metrics().delivered <= PREFETCH as u64, "more than prefetch are out");
    stuck.gate.close();
    let count = usize::try_from(accepted).unwrap_or_default();
    let mut ran = stuck.seen.take(count).await?;
    ran.sort_unstable();
    ensure_eq!(ran, (0..accepted).collect::<Vec<u64>>(), "what was handled in the end");
    publish(&bus, &[step(&stuck.topic, None, 99)?]).await?;
    ensure_eq!(stuck.seen.next().await?, 99, "what was published afterwards");
    stuck.seen.nothing().await
}

async fn a_publisher_goes_on_when_a_slow_consumer_does<B: Broker>(subject: Subject<B>) -> Check {
    let bus = subject.builder().publish_timeout(SOON).start().await?;
    let mut stuck = Stuck::subscribe(&subject, &bus).await?;
    let batch = steps(&stuck.topic, "k", 0..100)?;
    let mut publishing = std::pin::pin!(publish(&bus, &batch));
    let early = tokio::time::timeout(PAUSE, publishing.as_mut()).await;
    ensure!(early.is_err(), "100 events were accepted where there is room for few: {early:?}");
    stuck.gate.close();
    publishing.await?;
    ensure_eq!(stuck.seen.take(100).await?, (0..100).collect::<Vec<u64>>(), "what was handled");
    Ok(())
}

async fn a_slow_lossy_listener_stops_nobody<B: Broker>(subject: Subject<B>) -> Check {
    let bus = subject.builder().publish_timeout(SOON).start().await?;
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    let slow = subject.listener(&topic).buffer(2, OnFull::DropOldest).prefetch(1);
    let slow = slow.on(|_: Typed<Step>| std::future::pending::<()>());
    bus.subscribe(slow).await?;
    let quick = subject.consumer("g", &topic)?.on(move |step: Typed<Step>| {
        log.note(step.number);
        async {}
    });
    bus.subscribe(quick).await?;
    let begun = Instant::now();
    publish(&bus, &steps(&topic, "k", 0..500)?).await?;
    ensure_eq!(seen.take(500).await?, (0..500).collect::<Vec<u64>>(), "what was handled");
    elapsed_between(begun, std::time::Duration::ZERO, SOON / 2)
}
