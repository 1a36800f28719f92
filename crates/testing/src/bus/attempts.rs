//! What a failed attempt is, how many are made, and what follows.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_bus::{Backoff, Context, HandlerError, Jitter, RetryPolicy, plain};
use trunkline_core::{Broker, FailureCause, StoredDeadLetter, Typed};

use super::stage::{Log, NO_INK, Step, log, no_ink, publish, spread_steps, step};
use crate::broker::{
    BrokerProperty, Need, PAUSE, SOON, Subject, elapsed_between, eventually, promise,
};
use crate::failure::{Check, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::DeadLetters];

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(three_attempts_are_three_runs_in_all_with_several_members).needs(NEEDS),
        promise!(an_event_that_succeeds_in_the_end_is_no_dead_letter).needs(NEEDS),
        promise!(waits_between_attempts_are_kept).needs(NEEDS),
        promise!(a_permanent_error_goes_straight_to_the_dead_letters).needs(NEEDS),
        promise!(a_panic_is_a_failed_attempt_and_nothing_else).needs(NEEDS),
        promise!(a_panic_of_a_plain_function_is_a_failed_attempt_too).needs(NEEDS),
        promise!(a_time_limit_cancels_the_handler_and_counts).needs(NEEDS),
        promise!(many_failing_keys_stall_no_other).needs(NEEDS),
        promise!(a_failing_group_leaves_another_untouched).needs(NEEDS),
    ]
}

async fn three_attempts_are_three_runs_in_all_with_several_members<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (log, mut seen) = log();
    let mut buses = Vec::new();
    for _ in 0..3 {
        let (bus, log) = (subject.bus().await?, log.clone());
        let consumer = subject.consumer("g", &topic)?.concurrency(4);
        let consumer = consumer.retry(RetryPolicy::attempts(3)).on(
            move |step: Typed<Step>, context: Context| {
                log.note((step.number, context.attempt()));
                async { no_ink() }
            },
        );
        bus.subscribe(consumer).await?;
        buses.push(bus);
    }
    publish(&buses[0], &spread_steps(&topic, 10, 0..30)?).await?;
    let mut runs: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (number, attempt) in seen.take(90).await? {
        runs.entry(number).or_default().push(attempt);
    }
    for number in 0..30 {
        ensure_eq!(runs.get(&number), Some(&vec![1, 2, 3]), "the attempts at number {number}");
    }
    seen.nothing().await?;
    let letters = subject.wait_for_letters("g", 30).await?;
    let exact = letters.iter().all(|kept| kept.letter.attempts == 3);
    ensure!(exact, "a dead letter does not say 3 attempts");
    Ok(())
}

async fn an_event_that_succeeds_in_the_end_is_no_dead_letter<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.retry(RetryPolicy::attempts(3)).on(
        move |_: Typed<Step>, context: Context| {
            log.note(context.attempt());
            async move { if context.attempt() < 3 { no_ink() } else { Ok(()) } }
        },
    );
    bus.subscribe(consumer).await?;
    publish(&bus, &[step(&topic, Some("k"), 0)?]).await?;
    ensure_eq!(seen.take(3).await?, [1, 2, 3], "the attempts");
    subject.settled("g").await?;
    seen.nothing().await?;
    ensure!(subject.letters("g").await?.is_empty(), "a handled event is a dead letter");
    Ok(())
}

async fn waits_between_attempts_are_kept<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let policy = RetryPolicy::attempts(3)
        .with_backoff(Backoff::Exponential, PAUSE, SOON)
        .with_jitter(Jitter::None);
    let consumer = subject.consumer("g", &topic)?.retry(policy).on(move |_: Typed<Step>| {
        log.note(Instant::now());
        async { no_ink() }
    });
    bus.subscribe(consumer).await?;
    publish(&bus, &[step(&topic, Some("k"), 0)?]).await?;
    let times = seen.take(3).await?;
    for (run, least) in [(1, PAUSE), (2, PAUSE * 2)] {
        let waited = times[run] - times[run - 1];
        ensure!(waited >= least, "run {} began after {waited:?}, not {least:?}", run + 1);
    }
    subject.wait_for_letters("g", 1).await.map(drop)
}

/// The one dead letter, which has to say this.
async fn the_letter<B: Broker>(
    subject: &Subject<B>,
    attempts: u32,
    kind: &str,
    text: &str,
) -> Result<StoredDeadLetter, crate::Failure> {
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    let letter = &kept.letter;
    ensure_eq!(letter.cause, FailureCause::Failed, "the cause");
    ensure_eq!(letter.attempts, attempts, "the attempts");
    ensure_eq!(letter.error_kind, kind, "the kind of the error");
    ensure!(letter.error_text.contains(text), "the text is `{}`", letter.error_text);
    ensure!(letter.first_failure <= letter.last_failure, "it first failed after it last failed");
    Ok(kept)
}

async fn a_permanent_error_goes_straight_to_the_dead_letters<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.retry(RetryPolicy::attempts(5)).on(
        move |step: Typed<Step>| {
            log.note(step.number);
            async move {
                match step.number {
                    0 => Err(HandlerError::permanent(NO_INK)),
                    _ => Ok(()),
                }
            }
        },
    );
    bus.subscribe(consumer).await?;
    publish(&bus, &spread_steps(&topic, 1, 0..2)?).await?;
    ensure_eq!(seen.take(2).await?, [0, 1], "the runs");
    the_letter(&subject, 1, "handler_failed", NO_INK).await?;
    seen.nothing().await
}

/// Panics without the words on standard error that would look like a failure of the suite.
fn explode() {
    std::panic::resume_unwind(Box::new("boom 7"));
}

async fn a_panic_is_a_failed_attempt_and_nothing_else<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.retry(RetryPolicy::attempts(2)).on(
        move |step: Typed<Step>| {
            log.note(step.number);
            async move {
                if step.number == 0 {
                    explode();
                }
            }
        },
    );
    let handle = bus.subscribe(consumer).await?;
    publish(&bus, &spread_steps(&topic, 1, 0..5)?).await?;
    ensure_eq!(seen.take(6).await?, [0, 0, 1, 2, 3, 4], "the runs");
    the_letter(&subject, 2, "handler_panicked", "boom 7").await?;
    ensure_eq!(handle.metrics().panicked, 2, "the panics counted");
    Ok(())
}

async fn a_panic_of_a_plain_function_is_a_failed_attempt_too<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let handler = plain(move |step: Typed<Step>| {
        log.note(step.number);
        if step.number == 0 {
            explode();
        }
    });
    let consumer = subject.consumer("g", &topic)?.retry(RetryPolicy::attempts(2)).on(handler);
    bus.subscribe(consumer).await?;
    publish(&bus, &spread_steps(&topic, 1, 0..3)?).await?;
    ensure_eq!(seen.take(4).await?, [0, 0, 1, 2], "the runs");
    the_letter(&subject, 2, "handler_panicked", "boom 7").await.map(drop)
}

/// Writes down that it was dropped.
struct Dropped(Log<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

async fn a_time_limit_cancels_the_handler_and_counts<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.retry(RetryPolicy::attempts(2)).timeout(PAUSE);
    let consumer = consumer.on(move |step: Typed<Step>| {
        let log = log.clone();
        async move {
            if step.number == 0 {
                let _dropped = Dropped(log);
                std::future::pending::<()>().await;
            } else {
                log.note("handled");
            }
        }
    });
    let handle = bus.subscribe(consumer).await?;
    let begun = Instant::now();
    publish(&bus, &spread_steps(&topic, 1, 0..2)?).await?;
    ensure_eq!(seen.take(3).await?, ["dropped", "dropped", "handled"], "what happened");
    elapsed_between(begun, PAUSE * 2, PAUSE * 2 + SOON)?;
    the_letter(&subject, 2, "timed_out", "longer").await?;
    ensure_eq!(handle.metrics().timed_out, 2, "the time-outs counted");
    Ok(())
}

async fn many_failing_keys_stall_no_other<B: Broker>(subject: Subject<B>) -> Check {
    const FAILING: u32 = 30;
    const AT_ONCE: u32 = 4;
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let wait = Duration::from_secs(2);
    let policy =
        RetryPolicy::attempts(3).with_backoff(Backoff::Fixed, wait, wait).with_jitter(Jitter::None);
    let consumer = subject.consumer("g", &topic)?.concurrency(AT_ONCE as usize).retry(policy);
    let consumer = consumer.on(move |step: Typed<Step>| {
        let fails = step.number < u64::from(FAILING);
        if !fails {
            log.note(step.number);
        }
        async move { if fails { no_ink() } else { Ok(()) } }
    });
    bus.subscribe(consumer).await?;
    // Each of the first has a key of its own, and so has each of the others.
    let begun = Instant::now();
    publish(&bus, &spread_steps(&topic, 1_000, 0..200)?).await?;
    let mut good = seen.take(170).await?;
    // If they waited in the way of the others it would take all their waits, so many at a time.
    let stalled = 2 * wait * FAILING / AT_ONCE;
    ensure!(begun.elapsed() < stalled / 2, "the others took {:?}", begun.elapsed());
    good.sort_unstable();
    ensure_eq!(good, (u64::from(FAILING)..200).collect::<Vec<u64>>(), "the others");
    subject.wait_for_letters("g", 30).await.map(drop)
}

async fn a_failing_group_leaves_another_untouched<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let failing = subject.consumer("g", &topic)?.retry(RetryPolicy::attempts(3));
    let failing = failing.on(|_: Typed<Step>| async { no_ink() });
    let calm = subject.consumer("calm", &topic)?.on(move |step: Typed<Step>, context: Context| {
        log.note((step.number, context.attempt()));
        async {}
    });
    bus.subscribe(failing).await?;
    let calm = bus.subscribe(calm).await?;
    publish(&bus, &spread_steps(&topic, 1, 0..20)?).await?;
    let wanted: Vec<(u64, u32)> = (0..20).map(|number| (number, 1)).collect();
    ensure_eq!(seen.take(20).await?, wanted, "the runs of the other group");
    subject.wait_for_letters("g", 20).await?;
    let untouched = || async { Ok(calm.metrics().handled == 20) };
    eventually(SOON, "the other group has handled all", untouched).await?;
    ensure!(subject.letters("calm").await?.is_empty(), "the other group has dead letters");
    seen.nothing().await
}
