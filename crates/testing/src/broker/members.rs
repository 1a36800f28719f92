//! The members of a group share its events.

use std::collections::BTreeSet;

use futures_util::future::{try_join, try_join_all};
use trunkline_core::{Broker, Order};

use super::{
    BrokerProperty, Crew, Subject, ack, keyed, keyless, number, patience, promise, spread,
};
use crate::failure::{Check, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(members_share_a_group_and_each_event_goes_to_one),
        promise!(a_member_that_joins_gets_work_soon),
        promise!(what_a_member_leaves_behind_goes_to_the_others),
        promise!(members_without_order_share_one_key_or_keep_its_order),
        promise!(concurrent_publishers_and_members_lose_and_double_nothing),
    ]
}

async fn members_share_a_group_and_each_event_goes_to_one<B: Broker>(subject: Subject<B>) -> Check {
    const KEYS: u64 = 100;
    const ROUND: u64 = 500;
    let topic = subject.topic("a")?;
    let mut crew = Crew::new([]);
    for _ in 0..3 {
        crew.add(subject.join("g", &topic).await?);
    }
    let deadline = tokio::time::Instant::now() + patience();
    for round in 0.. {
        let numbers = round * ROUND..(round + 1) * ROUND;
        subject.publish(&spread(&topic, KEYS, numbers.clone())?).await?;
        let (mut seen, mut takers) = (BTreeSet::new(), BTreeSet::new());
        for (member, event) in crew.take(500).await? {
            takers.insert(member);
            ensure!(seen.insert(number(&event)?), "number {} came twice", number(&event)?);
        }
        ensure_eq!(seen, numbers.collect::<BTreeSet<u64>>(), "what came of a round");
        // Until they share, which takes a moment, some may get nothing.
        if takers.len() == 3 {
            break;
        }
        let late = tokio::time::Instant::now() > deadline;
        ensure!(!late, "only the members {takers:?} of three get anything");
    }
    crew.nothing().await
}

async fn a_member_that_joins_gets_work_soon<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut crew = Crew::new([subject.join("g", &topic).await?]);
    subject.publish(&spread(&topic, 100, 0..100)?).await?;
    crew.take(100).await?;
    crew.add(subject.join("g", &topic).await?);
    let (begun, limit) = (tokio::time::Instant::now(), patience());
    let mut rounds = 1;
    loop {
        subject.publish(&spread(&topic, 100, rounds * 100..rounds * 100 + 100)?).await?;
        rounds += 1;
        let got = crew.take(100).await?;
        if got.iter().any(|(member, _)| *member == 1) {
            return Ok(());
        }
        ensure!(begun.elapsed() < limit, "a member that joined got nothing within {limit:?}");
    }
}

async fn what_a_member_leaves_behind_goes_to_the_others<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut leaving = subject.join("g", &topic).await?;
    subject.publish(&spread(&topic, 20, 0..100)?).await?;
    let out = leaving.take(20).await?;
    let mut staying = subject.join("g", &topic).await?;
    let kept: Vec<u64> = out[..5].iter().map(|d| number(d.event())).collect::<Result<_, _>>()?;
    for (place, delivery) in out.into_iter().enumerate() {
        if place < 5 {
            ack(delivery).await?;
        }
    }
    leaving.leave().await?;
    staying.expect_all((0..100).filter(|at| !kept.contains(at))).await?;
    staying.nothing().await
}

async fn members_without_order_share_one_key_or_keep_its_order<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let options = subject.member_of("g", &topic)?.with_order(Order::None).with_prefetch(1);
    let mut one = subject.subscribe(options.clone()).await?;
    let mut two = subject.subscribe(options).await?;
    subject.publish(&keyed(&topic, "k", 0..10)?).await?;
    if !subject.expected.shared_keys {
        // What cannot be shared stays whole: each event goes to one member, and in order.
        let mut crew = Crew::new([one, two]);
        let taken = crew.take(10).await?;
        let numbers =
            taken.iter().map(|(_, event)| number(event)).collect::<Result<Vec<_>, _>>()?;
        ensure_eq!(numbers, (0..10).collect::<Vec<u64>>(), "the events of the key");
        return crew.nothing().await;
    }
    // Both are out at once: neither waits for the other.
    let (first, second) = (one.next().await?, two.next().await?);
    ensure!(number(first.event())? != number(second.event())?, "one event went to both members");
    ack(first).await?;
    ack(second).await
}

async fn concurrent_publishers_and_members_lose_and_double_nothing<B: Broker>(
    subject: Subject<B>,
) -> Check {
    const TOPICS: u64 = 4;
    const EACH: u64 = 250;
    let (mut topics, mut crews) = (Vec::new(), Vec::new());
    for at in 0..TOPICS {
        let topic = subject.topic(&format!("a.{at}"))?;
        let mut crew = Crew::new([]);
        for _ in 0..2 {
            crew.add(subject.join(&format!("g{at}"), &topic).await?);
        }
        topics.push(topic);
        crews.push(crew);
    }
    let publishing = topics.iter().enumerate().map(|(at, topic)| {
        let subject = &subject;
        // Numbers of their own, so that an event of another topic is noticed.
        let first = at as u64 * EACH;
        async move {
            for number in first..first + EACH {
                subject.publish(&keyless(topic, number..number + 1)?).await?;
            }
            Check::Ok(())
        }
    });
    let publishing = try_join_all(publishing);
    let taking = async {
        for (at, (topic, crew)) in topics.iter().zip(&mut crews).enumerate() {
            let wanted: BTreeSet<u64> = (at as u64 * EACH..(at as u64 + 1) * EACH).collect();
            let mut seen = BTreeSet::new();
            for (_, event) in crew.take(wanted.len()).await? {
                ensure_eq!(event.topic(), topic, "the topic of number {}", number(&event)?);
                seen.insert(number(&event)?);
            }
            ensure_eq!(seen, wanted, "the numbers of {topic}");
            crew.nothing().await?;
        }
        Check::Ok(())
    };
    try_join(publishing, taking).await.map(drop)
}
