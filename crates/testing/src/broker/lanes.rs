//! Priority lanes: more urgent events overtake, and order holds within a priority.

use trunkline_core::{Broker, Event, GroupSpec, Pattern, Priority, Topic};

use super::{BrokerProperty, Need, Subject, number, numbered, promise};
use crate::failure::{Check, Failure, ensure};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(more_urgent_events_overtake_and_each_priority_keeps_its_order)
            .needs(&[Need::PriorityLanes]),
        promise!(with_lanes_a_key_keeps_its_order_within_a_priority).needs(&[Need::PriorityLanes]),
        promise!(without_lanes_priorities_do_not_matter),
    ]
}

/// Where all lanes of a group are one queue.
pub(super) fn in_process<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![promise!(what_waits_is_delivered_by_its_urgency).needs(&[Need::PriorityLanes])]
}

/// Three rounds of every priority, the least urgent first: number n has priority n modulo 4.
fn rounds(topic: &Topic, key: Option<&str>) -> Result<Vec<Event>, Failure> {
    let urgent = |number: u64| {
        let place = usize::try_from(number % 4).unwrap_or_default();
        let priority = Priority::ALL[place];
        let event = numbered(topic, key, number)?;
        Ok(event.amend(|attributes| {
            attributes.set_priority(priority);
            Ok(())
        })?)
    };
    (0..12).map(urgent).collect()
}

async fn declare<B: Broker>(subject: &Subject<B>, topic: &Topic, lanes: bool) -> Check {
    let mut spec = GroupSpec::new(subject.group("g")?, [Pattern::from(topic.clone())]);
    spec.lanes = lanes;
    Ok(subject.admin()?.declare_group(spec).await?)
}

async fn ensure_order<B: Broker>(
    subject: Subject<B>,
    key: Option<&str>,
    lanes: bool,
    wanted: [u64; 12],
) -> Check {
    let topic = subject.topic("a")?;
    declare(&subject, &topic, lanes).await?;
    subject.publish(&rounds(&topic, key)?).await?;
    let mut options = subject.member_of("g", &topic)?;
    options.lanes = lanes;
    let mut member = subject.subscribe(options).await?;
    member.expect(wanted).await
}

const BY_URGENCY: [u64; 12] = [3, 7, 11, 2, 6, 10, 1, 5, 9, 0, 4, 8];

async fn what_waits_is_delivered_by_its_urgency<B: Broker>(subject: Subject<B>) -> Check {
    ensure_order(subject, None, true, BY_URGENCY).await
}

/// A backlog of 200 events of low priority, and 20 critical ones behind it. Which of two events comes
/// first that wait in different places of a server is nobody's promise, but the critical ones must not
/// wait for the backlog, and each priority keeps its order.
async fn ensure_overtaken<B: Broker>(subject: Subject<B>, key: Option<&str>) -> Check {
    const LOW: u64 = 200;
    const ALL: u64 = 220;
    let topic = subject.topic("a")?;
    declare(&subject, &topic, true).await?;
    let of = |number: u64| {
        let urgent = if number < LOW { Priority::Low } else { Priority::Critical };
        let event = numbered(&topic, key, number)?;
        Ok::<_, Failure>(event.amend(|attributes| {
            attributes.set_priority(urgent);
            Ok(())
        })?)
    };
    subject.publish(&(0..ALL).map(of).collect::<Result<Vec<_>, _>>()?).await?;
    let options = subject.member_of("g", &topic)?.with_lanes().with_prefetch(4);
    let mut member = subject.subscribe(options).await?;
    let mut seen = Vec::new();
    for _ in 0..ALL {
        seen.push(number(&member.event().await?)?);
    }
    let last_urgent = seen.iter().rposition(|number| *number >= LOW).unwrap_or(seen.len());
    ensure!(last_urgent < 100, "the critical ones were through only after {last_urgent} events");
    if key.is_some() {
        let (urgent, low): (Vec<u64>, Vec<u64>) = seen.iter().partition(|at| **at >= LOW);
        ensure!(urgent.is_sorted(), "the critical ones came as {urgent:?}");
        ensure!(low.is_sorted(), "the low ones came as {low:?}");
    }
    member.nothing().await
}

async fn more_urgent_events_overtake_and_each_priority_keeps_its_order<B: Broker>(
    subject: Subject<B>,
) -> Check {
    ensure_overtaken(subject, None).await
}

async fn with_lanes_a_key_keeps_its_order_within_a_priority<B: Broker>(
    subject: Subject<B>,
) -> Check {
    ensure_overtaken(subject, Some("k")).await
}

async fn without_lanes_priorities_do_not_matter<B: Broker>(subject: Subject<B>) -> Check {
    let as_published = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    ensure_order(subject, Some("k"), false, as_published).await
}
