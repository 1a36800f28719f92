//! A delayed publish comes when it is due, and can be taken back before.

use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, EventId, Pattern, PublishOptions, SubscribeOptions};

use super::{
    BrokerProperty, Need, SOON, Subject, ack, elapsed_between, keyless, numbered, promise,
};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_delayed_publish_is_not_early).needs(&[Need::Delay]),
        promise!(a_delayed_publish_lets_others_pass).needs(&[Need::Delay]),
        promise!(delayed_events_come_as_they_are_due).needs(&[Need::Delay]),
        promise!(a_delayed_publish_waits_for_members_to_come).needs(&[Need::Delay]),
        promise!(what_is_delayed_matches_no_pattern_before_it_is_due).needs(&[Need::Delay]),
        promise!(a_cancelled_publish_never_comes).needs(&[Need::Delay, Need::Cancel]),
        promise!(what_is_not_waiting_cannot_be_cancelled).needs(&[Need::Cancel]),
    ]
}

/// Longer than it takes to publish a few events, and than a thread stands still on a machine that is
/// busy: one that stands still sees nothing of an event that comes early.
const DELAY: Duration = Duration::from_millis(500);

fn delayed(delay: Duration) -> PublishOptions {
    PublishOptions::default().with_delay(delay)
}

async fn a_delayed_publish_is_not_early<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    let begun = Instant::now();
    subject.publish_with(&keyless(&topic, 0..3)?, &delayed(DELAY)).await?;
    for taker in [&mut member, &mut listener] {
        taker.expect_all(0..3).await?;
        elapsed_between(begun, DELAY, SOON)?;
        taker.nothing().await?;
    }
    Ok(())
}

async fn a_delayed_publish_lets_others_pass<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish_with(&[numbered(&topic, Some("k"), 1)?], &delayed(5 * DELAY)).await?;
    subject.publish(&[numbered(&topic, Some("k"), 2)?]).await?;
    member.expect([2, 1]).await
}

async fn delayed_events_come_as_they_are_due<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    // Two seconds apart: a server may take one to accept the first.
    for (number, parts) in [(0, 9), (1, 5), (2, 1)] {
        let options = delayed(parts * DELAY);
        subject.publish_with(&[numbered(&topic, None, number)?], &options).await?;
    }
    member.expect([2, 1, 0]).await
}

async fn a_delayed_publish_waits_for_members_to_come<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let begun = Instant::now();
    subject.publish_with(&[numbered(&topic, None, 1)?], &delayed(DELAY)).await?;
    let mut member = subject.join("g", &topic).await?;
    member.expect([1]).await?;
    elapsed_between(begun, DELAY, SOON)
}

async fn what_is_delayed_matches_no_pattern_before_it_is_due<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let all = SubscribeOptions::group(subject.group("all")?, [Pattern::all()]);
    let mut all = subject.subscribe(all).await?;
    let mut listener = subject.subscribe(SubscribeOptions::broadcast([Pattern::all()])).await?;
    let mut member = subject.join("g", &topic).await?;
    let begun = Instant::now();
    subject.publish_with(&[numbered(&topic, Some("k"), 1)?], &delayed(DELAY)).await?;
    // A delivery that is to be tried again waits like a delayed publish, and for its group alone.
    let first = member.next().await?;
    elapsed_between(begun, DELAY, SOON)?;
    let retried = first.retry(DELAY, 1).await;
    retried.map_err(|unsettled| Failure::from(unsettled.error))?;
    let again = member.next().await?;
    ensure_eq!(again.attempts(), 1, "the attempts written to it");
    ack(again).await?;
    for taker in [&mut all, &mut listener] {
        taker.expect([1]).await?;
        taker.nothing().await?;
    }
    member.nothing().await
}

async fn a_cancelled_publish_never_comes<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    let doomed = numbered(&topic, None, 1)?;
    let other = numbered(&topic, None, 2)?;
    let id = doomed.id().clone();
    // Longer than it takes to take one back.
    subject.publish_with(&[doomed, other], &delayed(10 * DELAY)).await?;
    ensure!(subject.admin()?.cancel(&id).await?, "a publish that is not due was not cancelled");
    ensure!(!subject.admin()?.cancel(&id).await?, "a publish was cancelled twice");
    for taker in [&mut member, &mut listener] {
        // The other is due at the same time: the cancelled one would have come with it.
        taker.expect([2]).await?;
        taker.nothing().await?;
    }
    Ok(())
}

async fn what_is_not_waiting_cannot_be_cancelled<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let event = numbered(&topic, None, 1)?;
    subject.publish_one(&event).await?;
    for id in [event.id().clone(), EventId::generate()] {
        let cancelled = subject.admin()?.cancel(&id).await?;
        ensure!(!cancelled, "something was cancelled that was not delayed");
    }
    member.expect([1]).await
}
