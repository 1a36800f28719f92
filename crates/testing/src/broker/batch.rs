//! A batch has a result for each event, and keeps the order of each key.

use trunkline_core::{Broker, Data, ErrorKind, Event};

use super::{BrokerConditions, BrokerProperty, Subject, numbered, promise, spread};
use crate::failure::{Check, Failure, ensure, ensure_eq};

const LIMIT: usize = 1 << 10;

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    let small = || BrokerConditions { max_event_bytes: Some(LIMIT), ..Default::default() };
    vec![
        promise!(a_batch_is_accepted_whole_and_in_order),
        promise!(an_empty_batch_is_accepted),
        promise!(a_batch_of_several_topics_reaches_each),
        promise!(one_bad_event_of_a_batch_fails_alone).under(small()),
        promise!(after_a_failure_later_events_of_the_key_are_aborted).under(small()),
        promise!(a_failed_key_is_whole_again_in_the_next_batch).under(small()),
    ]
}

async fn a_batch_is_accepted_whole_and_in_order<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let batch = spread(&topic, 5, 0..1_000)?;
    let result = subject.broker.publish(&batch, &Default::default()).await;
    ensure!(result.is_ok(), "a batch of 1,000 failed: {result:?}");
    let mut last = [None::<u64>; 5];
    for _ in 0..1_000 {
        let number = super::number(&member.event().await?)?;
        let last = &mut last[usize::try_from(number % 5).unwrap_or_default()];
        ensure!(*last < Some(number), "number {number} came after {last:?}");
        *last = Some(number);
    }
    member.nothing().await
}

async fn an_empty_batch_is_accepted<B: Broker>(subject: Subject<B>) -> Check {
    let result = subject.broker.publish(&[], &Default::default()).await;
    ensure!(result.is_ok(), "an empty batch failed: {result:?}");
    Ok(())
}

async fn a_batch_of_several_topics_reaches_each<B: Broker>(subject: Subject<B>) -> Check {
    let topics = [subject.topic("a")?, subject.topic("b")?, subject.topic("c")?];
    let mut members = Vec::new();
    for (at, topic) in topics.iter().enumerate() {
        members.push(subject.join(&format!("g{at}"), topic).await?);
    }
    let mut batch = Vec::new();
    for number in 0..30 {
        let topic = &topics[usize::try_from(number % 3).unwrap_or_default()];
        batch.push(numbered(topic, Some("k"), number)?);
    }
    subject.publish(&batch).await?;
    for (at, member) in (0..).zip(&mut members) {
        member.expect((at..30).step_by(3)).await?;
        member.nothing().await?;
    }
    Ok(())
}

/// An event that is too large, and so fails.
fn bad<B: Broker>(subject: &Subject<B>, key: Option<&str>) -> Result<Event, Failure> {
    let data = Data::raw(vec![b'9'; LIMIT + 1], "text/plain");
    let draft = Event::from_data("Bad", subject.topic("a")?, data);
    Ok(match key {
        Some(key) => draft.key(key).build()?,
        None => draft.build()?,
    })
}

async fn one_bad_event_of_a_batch_fails_alone<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let batch = [numbered(&topic, None, 0)?, bad(&subject, None)?, numbered(&topic, None, 2)?];
    ensure_failures(&subject, &batch, &[(1, ErrorKind::TooLarge)]).await?;
    member.expect_all([0, 2]).await?;
    member.nothing().await
}

async fn after_a_failure_later_events_of_the_key_are_aborted<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let of = |key, number| numbered(&topic, Some(key), number);
    let batch = [
        of("x", 0)?,
        bad(&subject, Some("x"))?,
        of("y", 2)?,
        of("x", 3)?,
        of("y", 4)?,
        of("x", 5)?,
        numbered(&topic, None, 6)?,
    ];
    let wanted = [(1, ErrorKind::TooLarge), (3, ErrorKind::Aborted), (5, ErrorKind::Aborted)];
    ensure_failures(&subject, &batch, &wanted).await?;
    member.expect_all([0, 2, 4, 6]).await?;
    member.nothing().await
}

async fn a_failed_key_is_whole_again_in_the_next_batch<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let first = [bad(&subject, Some("x"))?, numbered(&topic, Some("x"), 1)?];
    let wanted = [(0, ErrorKind::TooLarge), (1, ErrorKind::Aborted)];
    ensure_failures(&subject, &first, &wanted).await?;
    subject.publish(&first[1..]).await?;
    member.expect([1]).await
}

async fn ensure_failures<B: Broker>(
    subject: &Subject<B>,
    batch: &[Event],
    wanted: &[(usize, ErrorKind)],
) -> Check {
    let result = subject.broker.publish(batch, &Default::default()).await;
    let failed: Vec<_> = result.failures().map(|(place, error)| (place, error.kind())).collect();
    ensure_eq!(failed, wanted, "what failed of the batch");
    Ok(())
}
