//! A delayed publish comes when it is due, and can be taken back before.

use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, EventId, PublishOptions};

use super::{BrokerProperty, Need, SOON, Subject, elapsed_between, keyless, numbered, promise};
use crate::failure::{Check, ensure};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_delayed_publish_is_not_early).needs(&[Need::Delay]),
        promise!(a_delayed_publish_lets_others_pass).needs(&[Need::Delay]),
        promise!(delayed_events_come_as_they_are_due).needs(&[Need::Delay]),
        promise!(a_delayed_publish_waits_for_members_to_come).needs(&[Need::Delay]),
        promise!(a_cancelled_publish_never_comes).needs(&[Need::Delay, Need::Cancel]),
        promise!(what_is_not_waiting_cannot_be_cancelled).needs(&[Need::Cancel]),
    ]
}

const DELAY: Duration = Duration::from_millis(100);

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
        elapsed_between(begun, DELAY, DELAY + SOON)?;
        taker.nothing().await?;
    }
    Ok(())
}

async fn a_delayed_publish_lets_others_pass<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish_with(&[numbered(&topic, Some("k"), 1)?], &delayed(DELAY * 2)).await?;
    subject.publish(&[numbered(&topic, Some("k"), 2)?]).await?;
    member.expect([2, 1]).await
}

async fn delayed_events_come_as_they_are_due<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    for (number, delay) in [(0, DELAY * 5), (1, DELAY * 3), (2, DELAY)] {
        subject.publish_with(&[numbered(&topic, None, number)?], &delayed(delay)).await?;
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
    elapsed_between(begun, DELAY, DELAY + SOON)
}

async fn a_cancelled_publish_never_comes<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    let doomed = numbered(&topic, None, 1)?;
    let other = numbered(&topic, None, 2)?;
    let id = doomed.id().clone();
    subject.publish_with(&[doomed, other], &delayed(DELAY)).await?;
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
