//! What is dropped or retried comes back, in its place and with the attempts written to it.

use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, Delivery};

use super::{
    BrokerProperty, Need, SOON, Subject, Taker, ack, elapsed_between, keyed, number, numbered,
    promise, spread,
};
use crate::failure::{Check, Failure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_dropped_delivery_comes_back_at_the_head_of_its_key_uncounted),
        promise!(a_dropped_keyless_delivery_comes_back),
        promise!(a_dropped_delivery_keeps_the_attempts_written_before),
        promise!(a_retry_at_once_comes_back_first_with_its_attempts),
        promise!(attempts_are_the_same_for_the_next_member),
        promise!(a_retry_in_one_group_leaves_other_groups_alone),
        promise!(a_delayed_retry_is_not_early_and_carries_its_attempts).needs(&[Need::Delay]),
        promise!(a_delayed_retry_holds_nobody_up).needs(&[Need::Delay]),
        promise!(a_delayed_retry_outlives_its_member).needs(&[Need::Delay]),
    ]
}

async fn retry(delivery: Delivery, after: Duration, attempts: u32) -> Check {
    let retried = delivery.retry(after, attempts).await;
    retried.map_err(|unsettled| Failure::from(unsettled.error))
}

/// The next delivery has this number and this count of attempts; it is left unsettled.
async fn expect_attempts(
    taker: &mut Taker,
    wanted: u64,
    attempts: u32,
) -> Result<Delivery, Failure> {
    let delivery = taker.next().await?;
    ensure_eq!(number(delivery.event())?, wanted, "the next number");
    ensure_eq!(delivery.attempts(), attempts, "the attempts of number {wanted}");
    Ok(delivery)
}

async fn a_dropped_delivery_comes_back_at_the_head_of_its_key_uncounted<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..10)?).await?;
    for round in 0..5 {
        drop(
            expect_attempts(&mut member, 0, 0)
                .await
                .map_err(|failure| Failure::new(format!("after {round} drops: {failure}")))?,
        );
    }
    member.expect(0..10).await?;
    member.nothing().await
}

async fn a_dropped_keyless_delivery_comes_back<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish_one(&numbered(&topic, None, 7)?).await?;
    drop(member.next().await?);
    ack(expect_attempts(&mut member, 7, 0).await?).await?;
    member.nothing().await
}

async fn a_dropped_delivery_keeps_the_attempts_written_before<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish_one(&numbered(&topic, Some("k"), 1)?).await?;
    retry(member.next().await?, Duration::ZERO, 2).await?;
    drop(expect_attempts(&mut member, 1, 2).await?);
    ack(expect_attempts(&mut member, 1, 2).await?).await
}

async fn a_retry_at_once_comes_back_first_with_its_attempts<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..10)?).await?;
    for attempts in 0..4 {
        let delivery = expect_attempts(&mut member, 0, attempts).await?;
        retry(delivery, Duration::ZERO, attempts + 1).await?;
    }
    ack(expect_attempts(&mut member, 0, 4).await?).await?;
    ack(expect_attempts(&mut member, 1, 0).await?).await?;
    member.expect(2..10).await
}

async fn attempts_are_the_same_for_the_next_member<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut first = subject.join("g", &topic).await?;
    subject.publish_one(&numbered(&topic, Some("k"), 1)?).await?;
    retry(first.next().await?, Duration::ZERO, 2).await?;
    first.leave().await?;
    let mut second = subject.join("g", &topic).await?;
    ack(expect_attempts(&mut second, 1, 2).await?).await?;
    second.nothing().await
}

async fn a_retry_in_one_group_leaves_other_groups_alone<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut failing = subject.join("failing", &topic).await?;
    let mut calm = subject.join("calm", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..2)?).await?;
    retry(failing.next().await?, Duration::ZERO, 1).await?;
    for wanted in 0..2 {
        ack(expect_attempts(&mut calm, wanted, 0).await?).await?;
    }
    calm.nothing().await?;
    ack(expect_attempts(&mut failing, 0, 1).await?).await
}

/// Longer than a thread stands still on a machine that is busy, which sees nothing of what comes early.
const DELAY: Duration = Duration::from_millis(500);

async fn a_delayed_retry_is_not_early_and_carries_its_attempts<B: Broker>(
    subject: Subject<B>,
) -> Check {
    for key in [Some("k"), None] {
        let topic = subject.topic(key.unwrap_or("keyless"))?;
        let mut member = subject.join(key.unwrap_or("keyless"), &topic).await?;
        subject.publish_one(&numbered(&topic, key, 1)?).await?;
        let delivery = member.next().await?;
        let begun = Instant::now();
        retry(delivery, DELAY, 3).await?;
        let again = expect_attempts(&mut member, 1, 3).await?;
        elapsed_between(begun, DELAY, DELAY + SOON)?;
        ack(again).await?;
        member.nothing().await?;
    }
    Ok(())
}

async fn a_delayed_retry_holds_nobody_up<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&spread(&topic, 10, 0..10)?).await?;
    let first = member.next().await?;
    let late = number(first.event())?;
    // Longer than it takes to take the others.
    retry(first, 4 * DELAY, 1).await?;
    let mut others: Vec<u64> = (0..10).filter(|at| *at != late).collect();
    member.expect_all(others.drain(..)).await?;
    ack(expect_attempts(&mut member, late, 1).await?).await
}

async fn a_delayed_retry_outlives_its_member<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut first = subject.join("g", &topic).await?;
    subject.publish_one(&numbered(&topic, Some("k"), 1)?).await?;
    let begun = Instant::now();
    retry(first.next().await?, DELAY, 1).await?;
    first.leave().await?;
    let mut second = subject.join("g", &topic).await?;
    let again = expect_attempts(&mut second, 1, 1).await?;
    elapsed_between(begun, DELAY, DELAY + SOON)?;
    ack(again).await
}
