//! Handlers that run when their member loses what they handle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Instant, timeout};
use trunkline_bus::{ConsumerMetrics, Context, EventBus, RetryPolicy, plain};
use trunkline_core::{Broker, Event};

use super::cuts::{accept, close_before};
use super::property::on_its_own_server;
use super::{FaultProperty, Scene};
use crate::broker::{SOON, keyed, number};
use crate::bus::stage::{Log, log};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_its_own_server!(after_a_cut_a_waiting_handler_is_cancelled_and_its_event_comes_again)
            .once(),
        on_its_own_server!(after_a_cut_a_plain_handler_keeps_its_key_until_it_returns).once(),
    ]
}

/// What a handler writes down.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// The first run of number 0, which does not end by itself.
    Begun,
    Cancelled,
    /// A run that ends: number and attempt.
    Ran(u64, u32),
}

/// Notes that the handler that holds it was dropped.
struct Dropped(Log<Line>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note(Line::Cancelled);
    }
}

/// What the only consumer of a bus has counted.
fn counted(bus: &EventBus) -> Result<ConsumerMetrics, Failure> {
    bus.metrics().consumers.pop().ok_or_else(|| Failure::new("the bus has no consumer"))
}

/// Neither a failed attempt nor a dead letter comes of what was lost.
fn ensure_uncounted(counted: &ConsumerMetrics) -> Check {
    ensure_eq!(
        (counted.failed, counted.retried, counted.dead_lettered),
        (0, 0, 0),
        "attempts that failed and were retried, and dead letters"
    );
    Ok(())
}

async fn after_a_cut_a_waiting_handler_is_cancelled_and_its_event_comes_again<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let other = scene.process().await?;
    let bound = other.hooks.takeover()?;
    let (proxy, cut_off) = scene.process_behind_proxy().await?;
    let topic = other.topic("a")?;
    let bus = cut_off.bus().await?;
    let (log, mut seen) = log();
    let is_first = Arc::new(AtomicBool::new(true));
    let handler = move |event: Event, context: Context| {
        let (log, is_first) = (log.clone(), Arc::clone(&is_first));
        async move {
            if is_first.swap(false, Ordering::SeqCst) {
                log.note(Line::Begun);
                let _dropped = Dropped(log);
                std::future::pending::<()>().await;
            } else {
                log.note(Line::Ran(number(&event).unwrap_or(u64::MAX), context.attempt()));
            }
        }
    };
    let consumer = cut_off.consumer("g", &topic)?.retry(RetryPolicy::attempts(1)).on(handler);
    bus.subscribe(consumer).await?;
    other.publish(&keyed(&topic, "k", 0..3)?).await?;
    ensure_eq!(seen.next().await?, Line::Begun, "what is seen first");
    proxy.refuse().await;
    proxy.cut();
    let begun = Instant::now();
    let late = |_| Failure::new(format!("the handler still ran after {:?}", begun.elapsed()));
    let line = timeout(bound + SOON, seen.next()).await.map_err(late)??;
    ensure_eq!(line, Line::Cancelled, "what is seen after the cut");
    accept(&proxy).await?;
    for number in 0..3 {
        ensure_eq!(seen.next().await?, Line::Ran(number, 1), "the next run");
    }
    let counted = counted(&bus)?;
    ensure_uncounted(&counted)?;
    ensure!(counted.revoked > 0, "that the event was given up was not counted");
    bus.close(SOON).await?;
    other.settled("g").await?;
    close_before(cut_off, proxy).await
}

async fn after_a_cut_a_plain_handler_keeps_its_key_until_it_returns<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let other = scene.process().await?;
    let (proxy, cut_off) = scene.process_behind_proxy().await?;
    let topic = other.topic("a")?;
    let bus = cut_off.bus().await?;
    let (log, mut seen) = log();
    // Dropped with this future, so that a failure does not leave the handler's thread waiting.
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(Some(released));
    let handler = move |event: Event| {
        let first = released.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(released) = first {
            log.note(Line::Begun);
            // Ends with an error when the sender is dropped, which is what it waits for.
            let _ended = released.recv();
        }
        let attempt = Context::current().map_or(0, |context| context.attempt());
        log.note(Line::Ran(number(&event).unwrap_or(u64::MAX), attempt));
    };
    let consumer =
        cut_off.consumer("g", &topic)?.retry(RetryPolicy::attempts(1)).on(plain(handler));
    bus.subscribe(consumer).await?;
    other.publish(&keyed(&topic, "k", 0..3)?).await?;
    ensure_eq!(seen.next().await?, Line::Begun, "what is seen first");
    proxy.refuse().await;
    proxy.cut();
    // Until its member has lost the event, and as long again while it is a member once more.
    let bound = other.hooks.takeover()?;
    seen.nothing_for(bound).await?;
    accept(&proxy).await?;
    seen.nothing_for(bound).await?;
    drop(release);
    ensure_eq!(seen.next().await?, Line::Ran(0, 1), "how the first run ends");
    for number in 0..3 {
        ensure_eq!(seen.next().await?, Line::Ran(number, 1), "the next run");
    }
    ensure_uncounted(&counted(&bus)?)?;
    bus.close(SOON).await?;
    other.settled("g").await?;
    close_before(cut_off, proxy).await
}
