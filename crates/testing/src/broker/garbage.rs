//! What foreign programs write to a topic that is no event.

use trunkline_core::{Broker, DeadLetter, FailureCause};

use super::{BrokerProperty, Need, Subject, ack, keyed, number, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(what_is_no_event_is_delivered_raw_with_its_defect_and_others_go_on)
            .needs(&[Need::ForeignWriter, Need::DeadLetters]),
    ]
}

/// Bytes that no codec takes for an event.
pub(crate) const GARBAGE: &[u8] = b"\x00\xff\xfe this is no event {";

async fn what_is_no_event_is_delivered_raw_with_its_defect_and_others_go_on<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut other = subject.join("other", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..2)?).await?;
    subject.hooks.write_raw(&topic, GARBAGE).await?;
    subject.publish(&keyed(&topic, "k", 2..4)?).await?;
    let (mut odd, mut numbers) = (None, Vec::new());
    for delivery in member.take(5).await? {
        if delivery.defect().is_some() {
            ensure!(odd.is_none(), "two deliveries have a defect");
            odd = Some(delivery);
        } else {
            numbers.push(number(delivery.event())?);
            ack(delivery).await?;
        }
    }
    ensure_eq!(numbers, [0, 1, 2, 3], "the events beside it");
    let odd = odd.ok_or_else(|| Failure::new("what is no event came without a defect"))?;
    ensure_eq!(odd.event().data()?.as_slice(), GARBAGE, "the raw bytes");
    ensure_eq!(odd.event().topic(), &topic, "the topic");
    let now = jiff::Timestamp::now();
    let letter = DeadLetter {
        cause: FailureCause::Undecodable,
        attempts: 0,
        first_failure: now,
        last_failure: now,
        error_kind: "decode".to_owned(),
        error_text: "no event".to_owned(),
    };
    odd.reject(letter).await.map_err(|unsettled| Failure::from(unsettled.error))?;
    let kept = subject.wait_for_letters("g", 1).await?.remove(0);
    ensure_eq!(kept.event.data()?.as_slice(), GARBAGE, "the raw bytes of the dead letter");
    ensure_eq!(kept.letter.cause, FailureCause::Undecodable, "its cause");
    member.nothing().await?;
    // Each group gets it once.
    let mut defects = 0;
    for delivery in other.take(5).await? {
        defects += usize::from(delivery.defect().is_some());
        ack(delivery).await?;
    }
    ensure_eq!(defects, 1, "how often another group got what is no event");
    other.nothing().await
}
