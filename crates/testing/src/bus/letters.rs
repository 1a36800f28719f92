//! What the runtime does with dead letters: none is lost, and a redriven event starts anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use trunkline_bus::{Context, RetryPolicy};
use trunkline_core::{Broker, Data, DeadLetterVerdict, Topic, Typed};

use super::stage::{Step, log, no_ink, publish, spread_steps, step, steps};
use crate::broker::{
    BrokerConditions, BrokerProperty, Need, Subject, eventually, patience, promise,
};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    let one = BrokerConditions { max_dead_letters: Some(1), ..Default::default() };
    vec![
        promise!(a_refused_dead_letter_keeps_the_event_and_its_key_waiting)
            .needs(&[Need::DeadLetters])
            .under(one),
        promise!(a_redriven_event_starts_with_its_first_attempt).needs(&[Need::DeadLetters]),
        promise!(a_dead_letter_of_a_value_holds_its_bytes).needs(&[Need::DeadLetters]),
        promise!(events_behind_a_dead_letter_go_on_in_order).needs(&[Need::DeadLetters]),
    ]
}

async fn a_refused_dead_letter_keeps_the_event_and_its_key_waiting<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.concurrency(4).retry(RetryPolicy::attempts(1));
    let consumer = consumer.on(move |step: Typed<Step>| {
        log.note(step.number);
        async move { if step.number == 0 { no_ink() } else { Ok(()) } }
    });
    let handle = bus.subscribe(consumer).await?;
    let heal = refuse_letters(&subject, &topic, "g").await?;
    let batch = spread_steps(&topic, 2, 0..4)?;
    publish(&bus, &batch).await?;
    let refused = || async { Ok(handle.metrics().settle_failed > 0) };
    eventually(patience(), "a dead letter is refused", refused).await?;
    let mut ran = seen.take(3).await?;
    ran.sort_unstable();
    // The other key goes on, this one waits behind its head.
    ensure_eq!(ran, [0, 1, 3], "what ran");
    seen.nothing().await?;
    heal.await?;
    ensure_eq!(seen.next().await?, 2, "what ran once the letter could be kept");
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    ensure_eq!(kept.event.id(), batch[0].id(), "the dead letter");
    subject.settled("g").await?;
    seen.nothing().await
}

/// Makes the place of a group's dead letters refuse them until what this answers is awaited.
async fn refuse_letters<'a, B: Broker>(
    subject: &'a Subject<B>,
    topic: &Topic,
    group: &str,
) -> Result<BoxFuture<'a, Check>, Failure> {
    if !subject.is_in_process() {
        let heal = subject.hooks.refuse_letters(topic, subject.group(group)?).await?;
        return Ok(Box::pin(async move { Ok(heal.await?) }));
    }
    // Here one log is the place of all: another group's letter takes the room that there is.
    let topic = subject.topic("full")?;
    let bus = subject.bus().await?;
    let consumer = subject.consumer("full", &topic)?.retry(RetryPolicy::attempts(1));
    bus.subscribe(consumer.on(|_: Typed<Step>| async { no_ink() })).await?;
    publish(&bus, &[step(&topic, None, 0)?]).await?;
    let kept = subject.wait_for_letters("full", 1).await?.remove(0);
    Ok(Box::pin(async move {
        Ok(subject.admin()?.settle_dead_letter(&kept.id, DeadLetterVerdict::Discard).await?)
    }))
}

async fn a_redriven_event_starts_with_its_first_attempt<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let broken = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&broken);
    let consumer = subject.consumer("g", &topic)?.retry(RetryPolicy::attempts(2)).on(
        move |_: Typed<Step>, context: Context| {
            log.note(context.attempt());
            let fails = state.load(Ordering::SeqCst);
            async move { if fails { no_ink() } else { Ok(()) } }
        },
    );
    bus.subscribe(consumer).await?;
    publish(&bus, &[step(&topic, Some("k"), 1)?]).await?;
    ensure_eq!(seen.take(2).await?, [1, 2], "the attempts");
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    broken.store(false, Ordering::SeqCst);
    subject.admin()?.settle_dead_letter(&kept.id, DeadLetterVerdict::Redrive).await?;
    ensure_eq!(seen.next().await?, 1, "the attempt after the redrive");
    subject.settled("g").await?;
    ensure!(subject.letters("g").await?.is_empty(), "a handled event is a dead letter");
    seen.nothing().await
}

async fn a_dead_letter_of_a_value_holds_its_bytes<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let bus = subject.bus().await?;
    let consumer = subject.consumer("g", &topic)?.retry(RetryPolicy::attempts(1));
    bus.subscribe(consumer.on(|_: Typed<Step>| async { no_ink() })).await?;
    publish(&bus, &[step(&topic, Some("k"), 7)?]).await?;
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    let wanted = Data::json(r#"{"key":"k","number":7}"#);
    ensure_eq!(kept.event.data()?, wanted, "the data of the dead letter");
    ensure_eq!(kept.event.typed::<Step>()?.number, 7, "the value of the dead letter");
    Ok(())
}

async fn events_behind_a_dead_letter_go_on_in_order<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let (bus, (log, mut seen)) = (subject.bus().await?, log());
    let consumer = subject.consumer("g", &topic)?.concurrency(4).retry(RetryPolicy::attempts(1));
    let consumer = consumer.on(move |step: Typed<Step>| {
        log.note(step.number);
        async move { if step.number.is_multiple_of(3) { no_ink() } else { Ok(()) } }
    });
    bus.subscribe(consumer).await?;
    publish(&bus, &steps(&topic, "k", 0..12)?).await?;
    ensure_eq!(seen.take(12).await?, (0..12).collect::<Vec<u64>>(), "the runs");
    let letters = subject.wait_for_letters("g", 4).await?;
    let mut numbers = Vec::new();
    for kept in letters {
        numbers.push(kept.event.typed::<Step>()?.number);
    }
    ensure_eq!(numbers, [0, 3, 6, 9], "the dead letters, oldest first");
    Ok(())
}
