//! Deliveries are out until they are settled, in any order, and never more than asked for.

use trunkline_core::Broker;

use super::{BrokerProperty, Subject, ack, keyless, number, promise, spread};
use crate::failure::{Check, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(deliveries_are_settled_in_any_order),
        promise!(an_unsettled_event_comes_again_though_later_ones_were_acknowledged),
        promise!(at_most_prefetch_deliveries_are_out),
        promise!(an_acknowledged_event_never_comes_again),
        promise!(nothing_is_acknowledged_by_being_read),
        promise!(a_lost_member_loses_nothing),
    ]
}

async fn deliveries_are_settled_in_any_order<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&spread(&topic, 3, 0..12)?).await?;
    let mut out = member.take(12).await?;
    // From the back, and the middle first: no order at all.
    out.swap(2, 10);
    while let Some(delivery) = out.pop() {
        ack(delivery).await?;
    }
    subject.settled("g").await?;
    member.leave().await?;
    let mut next = subject.join("g", &topic).await?;
    next.nothing().await
}

async fn an_unsettled_event_comes_again_though_later_ones_were_acknowledged<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut first = subject.join("g", &topic).await?;
    subject.publish(&spread(&topic, 30, 0..30)?).await?;
    let mut kept = Vec::new();
    for delivery in first.take(30).await? {
        if number(delivery.event())? < 5 {
            kept.push(delivery);
        } else {
            ack(delivery).await?;
        }
    }
    drop(kept);
    first.leave().await?;
    let mut second = subject.join("g", &topic).await?;
    second.expect_all(0..5).await?;
    second.nothing().await
}

async fn at_most_prefetch_deliveries_are_out<B: Broker>(subject: Subject<B>) -> Check {
    // The small ones too, where a share of the prefetch rounds to nothing.
    for prefetch in [1, 2, 3, 8] {
        ensure_prefetch(&subject, prefetch).await?;
    }
    Ok(())
}

async fn ensure_prefetch<B: Broker>(subject: &Subject<B>, prefetch: usize) -> Check {
    let (topic, group) = (subject.topic(&format!("a.{prefetch}"))?, format!("g{prefetch}"));
    let options = subject.member_of(&group, &topic)?.with_prefetch(prefetch);
    let mut member = subject.subscribe(options).await?;
    subject.publish(&keyless(&topic, 0..40)?).await?;
    let mut out = member.take(prefetch).await?;
    member.nothing().await?;
    let mut seen = Vec::new();
    while let Some(delivery) = out.pop() {
        seen.push(number(delivery.event())?);
        ack(delivery).await?;
        if seen.len() + out.len() < 40 {
            // One has made room for one.
            out.push(member.next().await?);
        }
        ensure!(out.len() <= prefetch, "{} deliveries are out", out.len());
    }
    seen.sort_unstable();
    ensure_eq!(seen, (0..40).collect::<Vec<u64>>(), "the numbers that came");
    Ok(())
}

async fn an_acknowledged_event_never_comes_again<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut first = subject.join("g", &topic).await?;
    subject.publish(&spread(&topic, 5, 0..50)?).await?;
    first.expect_all(0..50).await?;
    first.nothing().await?;
    first.leave().await?;
    let mut second = subject.join("g", &topic).await?;
    second.nothing().await
}

async fn nothing_is_acknowledged_by_being_read<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut first = subject.join("g", &topic).await?;
    subject.publish(&spread(&topic, 4, 0..20)?).await?;
    let out = first.take(20).await?;
    drop(out);
    first.leave().await?;
    let mut second = subject.join("g", &topic).await?;
    second.expect_all(0..20).await?;
    second.nothing().await
}

async fn a_lost_member_loses_nothing<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut lost = subject.join("g", &topic).await?;
    let mut other = subject.join("g", &topic).await?;
    subject.publish(&spread(&topic, 20, 0..100)?).await?;
    let out = vec![lost.next().await?, lost.next().await?];
    // It leaves without a word, and what it had out is dropped after it.
    drop(lost);
    drop(out);
    other.expect_all(0..100).await?;
    other.nothing().await
}
