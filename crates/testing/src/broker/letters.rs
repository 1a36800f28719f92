//! Dead letters keep all that is known of an event that was given up.

use jiff::Timestamp;
use trunkline_core::{
    AttributeValue, Broker, Data, DeadLetter, DeadLetterFilter, DeadLetterVerdict, Delivery,
    ErrorKind, Event, FailureCause, SubscribeOptions,
};

use super::{
    BrokerConditions, BrokerProperty, Need, Subject, Taker, ack, keyed, keyless, number, numbered,
    promise, quiet,
};
use crate::failure::{Check, Failure, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::DeadLetters];

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_dead_letter_keeps_all_that_is_known).needs(NEEDS),
        promise!(a_rejected_event_does_not_come_again).needs(NEEDS),
        promise!(dead_letters_match_no_pattern).needs(NEEDS),
        promise!(dead_letters_are_read_oldest_first_by_group_and_topic).needs(NEEDS),
        promise!(a_redriven_event_comes_back_to_its_group_alone_without_attempts).needs(NEEDS),
        promise!(a_discarded_dead_letter_is_forgotten).needs(NEEDS),
        promise!(a_dead_letter_is_settled_once).needs(NEEDS),
        promise!(a_broadcast_dead_letter_has_no_group_and_goes_back_to_its_subscriber).needs(NEEDS),
        promise!(dead_letters_outlive_their_group).needs(NEEDS),
    ]
}

pub(super) fn in_process<B: Broker>() -> Vec<BrokerProperty<B>> {
    let one = BrokerConditions { max_dead_letters: Some(1), ..Default::default() };
    vec![promise!(a_full_log_leaves_the_event_unacknowledged).needs(NEEDS).under(one)]
}

/// A letter whose times are as exact as every broker keeps them.
fn letter(attempts: u32) -> DeadLetter {
    let time = |text: &str| text.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH);
    DeadLetter {
        cause: FailureCause::Failed,
        attempts,
        first_failure: time("2024-05-06T07:08:09.123Z"),
        last_failure: time("2024-05-06T07:08:10.456Z"),
        error_kind: "handler_failed".to_owned(),
        error_text: "no ink — “empty”: still no ink".to_owned(),
    }
}

async fn reject(delivery: Delivery) -> Check {
    let rejected = delivery.reject(letter(3)).await;
    rejected.map_err(|unsettled| Failure::from(unsettled.error))
}

async fn reject_next(taker: &mut Taker) -> Check {
    reject(taker.next().await?).await
}

async fn a_dead_letter_keeps_all_that_is_known<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let bytes: Vec<u8> = (0..=255).collect();
    let event = Event::from_data("Broken", topic.clone(), Data::raw(bytes, "image/png"))
        .key("k")
        .tenant("tenant-1")
        .attribute("freetext", "kept")
        .build()?;
    subject.publish_one(&event).await?;
    reject_next(&mut member).await?;
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    ensure_eq!(kept.group, Some(subject.group("g")?), "the group");
    ensure_eq!(kept.event.topic(), &topic, "the topic");
    ensure_eq!(kept.event.data()?, event.data()?, "the data");
    ensure_eq!(kept.event.attributes().identity(), event.attributes().identity(), "the identity");
    ensure_eq!(kept.event.attributes().key(), Some("k"), "the key");
    let free = kept.event.attributes().get("freetext");
    let text = free.as_ref().map(AttributeValue::to_text);
    ensure_eq!(text.as_deref(), Some("kept"), "a free attribute");
    ensure_eq!(kept.letter, letter(3), "why and when it was given up");
    Ok(())
}

async fn a_rejected_event_does_not_come_again<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut other = subject.join("other", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..3)?).await?;
    reject_next(&mut member).await?;
    member.expect([1, 2]).await?;
    member.nothing().await?;
    other.expect(0..3).await?;
    member.leave().await?;
    let mut next = subject.join("g", &topic).await?;
    next.nothing().await
}

async fn dead_letters_match_no_pattern<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let group = SubscribeOptions::group(subject.group("all")?, [subject.pattern("#")?]);
    let mut all = subject.subscribe(group).await?;
    let mut listener =
        subject.subscribe(SubscribeOptions::broadcast([trunkline_core::Pattern::all()])).await?;
    subject.publish_one(&numbered(&topic, None, 1)?).await?;
    reject_next(&mut member).await?;
    subject.wait_for_letters("g", 1).await?;
    subject.publish_one(&numbered(&topic, None, 2)?).await?;
    all.expect_all([1, 2]).await?;
    all.nothing().await?;
    // On a server it also hears what other properties publish.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = listener.event().await?;
        if subject.owns(event.topic()) {
            seen.push(number(&event)?);
        }
    }
    let until = tokio::time::Instant::now() + quiet();
    while let Ok(next) = tokio::time::timeout_at(until, listener.event()).await {
        let event = next?;
        if subject.owns(event.topic()) {
            seen.push(number(&event)?);
        }
    }
    seen.sort_unstable();
    ensure_eq!(seen, [1, 2], "what a subscriber of every topic got");
    Ok(())
}

async fn dead_letters_are_read_oldest_first_by_group_and_topic<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let (a, b) = (subject.topic("a")?, subject.topic("b")?);
    for (group, topic, numbers) in [("one", &a, 0..3), ("two", &b, 3..5), ("two", &a, 5..6)] {
        let mut member = subject.join(group, topic).await?;
        subject.publish(&keyed(topic, "k", numbers.clone())?).await?;
        for number in numbers {
            let delivery = next_numbered(&mut member, number).await?;
            reject(delivery).await?;
        }
        member.leave().await?;
    }
    let one = DeadLetterFilter { group: Some(subject.group("one")?), ..Default::default() };
    ensure_read(&subject, &one, &[0, 1, 2]).await?;
    ensure_read(&subject, &DeadLetterFilter { limit: Some(2), ..one }, &[0, 1]).await?;
    let two = DeadLetterFilter {
        group: Some(subject.group("two")?),
        topic: Some(a),
        ..Default::default()
    };
    ensure_read(&subject, &two, &[5]).await
}

/// The delivery of this number; what comes before it of earlier rounds is acknowledged.
async fn next_numbered(taker: &mut Taker, wanted: u64) -> Result<Delivery, Failure> {
    loop {
        let delivery = taker.next().await?;
        if number(delivery.event())? == wanted {
            return Ok(delivery);
        }
        ack(delivery).await?;
    }
}

async fn ensure_read<B: Broker>(
    subject: &Subject<B>,
    filter: &DeadLetterFilter,
    wanted: &[u64],
) -> Check {
    let letters = subject.admin()?.dead_letters(filter).await?;
    let found = letters.iter().map(|kept| number(&kept.event)).collect::<Result<Vec<_>, _>>()?;
    ensure_eq!(found, wanted, "the dead letters of {filter:?}");
    Ok(())
}

async fn a_redriven_event_comes_back_to_its_group_alone_without_attempts<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut other = subject.join("other", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    subject.publish_one(&numbered(&topic, Some("k"), 1)?).await?;
    reject_next(&mut member).await?;
    other.expect([1]).await?;
    listener.expect([1]).await?;
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    subject.admin()?.settle_dead_letter(&kept.id, DeadLetterVerdict::Redrive).await?;
    let again = member.next().await?;
    ensure_eq!(number(again.event())?, 1, "the number that came back");
    ensure_eq!(again.event().id(), kept.event.id(), "its id");
    ensure_eq!(again.attempts(), 0, "its attempts");
    ack(again).await?;
    ensure!(subject.letters("g").await?.is_empty(), "a redriven event is still a dead letter");
    other.nothing().await?;
    listener.nothing().await
}

async fn a_discarded_dead_letter_is_forgotten<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish_one(&numbered(&topic, None, 1)?).await?;
    reject_next(&mut member).await?;
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    subject.admin()?.settle_dead_letter(&kept.id, DeadLetterVerdict::Discard).await?;
    ensure!(subject.letters("g").await?.is_empty(), "a discarded dead letter is still there");
    member.nothing().await
}

async fn a_dead_letter_is_settled_once<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&keyless(&topic, 0..2)?).await?;
    for verdict in [DeadLetterVerdict::Redrive, DeadLetterVerdict::Discard] {
        reject_next(&mut member).await?;
        let kept = subject.wait_for_letters("g", 1).await?.remove(0);
        subject.admin()?.settle_dead_letter(&kept.id, verdict).await?;
        for again in [DeadLetterVerdict::Redrive, DeadLetterVerdict::Discard] {
            match subject.admin()?.settle_dead_letter(&kept.id, again).await {
                Err(error) => {
                    ensure_eq!(error.kind(), ErrorKind::NotFound, "the kind of `{error}`");
                }
                Ok(()) => ensure!(false, "a dead letter was settled by {verdict:?} and {again:?}"),
            }
        }
    }
    // The redriven one and nothing else.
    member.event().await?;
    member.nothing().await
}

async fn a_broadcast_dead_letter_has_no_group_and_goes_back_to_its_subscriber<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut one = subject.listen(&topic).await?;
    let mut two = subject.listen(&topic).await?;
    subject.publish_one(&numbered(&topic, None, 1)?).await?;
    reject_next(&mut one).await?;
    two.expect([1]).await?;
    let filter = DeadLetterFilter { topic: Some(topic), ..Default::default() };
    let mut letters = subject.admin()?.dead_letters(&filter).await?;
    ensure_eq!(letters.len(), 1, "the number of dead letters");
    let kept = letters.remove(0);
    ensure_eq!(kept.group, None, "the group of a broadcast subscriber");
    subject.admin()?.settle_dead_letter(&kept.id, DeadLetterVerdict::Redrive).await?;
    one.expect([1]).await?;
    two.nothing().await
}

async fn dead_letters_outlive_their_group<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish_one(&numbered(&topic, None, 1)?).await?;
    reject_next(&mut member).await?;
    subject.wait_for_letters("g", 1).await?;
    member.leave().await?;
    let group = subject.group("g")?;
    let deleted = || async { Ok(subject.admin()?.delete_group(&group).await?) };
    super::eventually(super::SOON, "the group is deleted", deleted).await?;
    ensure_eq!(subject.letters("g").await?.len(), 1, "the dead letters of a deleted group");
    Ok(())
}

async fn a_full_log_leaves_the_event_unacknowledged<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..3)?).await?;
    reject_next(&mut member).await?;
    let second = member.next().await?;
    let Err(refused) = second.reject(letter(3)).await else {
        return Err(Failure::new("a dead letter was accepted by a log that is full"));
    };
    ensure_eq!(refused.error.kind(), ErrorKind::Full, "the kind of `{}`", refused.error);
    // Still unsettled: it comes back before what follows it.
    drop(refused.delivery);
    member.expect([1, 2]).await?;
    ensure_eq!(subject.letters("g").await?.len(), 1, "the number of dead letters");
    Ok(())
}
