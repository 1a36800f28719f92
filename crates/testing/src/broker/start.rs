//! Where a new group begins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join;
use jiff::Timestamp;
use trunkline_core::{Broker, Pattern, StartAt, SubscribeOptions, Topic};

use super::refusal::ensure_subscribe_refused;
use super::{BrokerProperty, Subject, Taker, keyed, number, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_new_group_begins_with_what_was_published_before_it_or_with_its_making),
        promise!(a_group_that_begins_latest_skips_what_was_before),
        promise!(a_group_that_begins_at_a_time_skips_what_was_before_or_is_refused_by_name),
        promise!(a_broadcast_subscriber_may_begin_at_a_time_or_is_refused_by_name),
        promise!(where_to_begin_applies_only_to_a_new_group),
        promise!(between_the_beginning_and_now_nothing_is_missed_or_doubled),
    ]
}

/// Publishes to a group of its own, so that the topic is not unroutable.
async fn publish<B: Broker>(
    subject: &Subject<B>,
    topic: &Topic,
    numbers: std::ops::Range<u64>,
) -> Check {
    subject.declare("other", topic).await?;
    subject.publish(&keyed(topic, "k", numbers)?).await
}

async fn join_at<B: Broker>(
    subject: &Subject<B>,
    topic: &Topic,
    start: StartAt,
) -> Result<Taker, Failure> {
    subject.subscribe(subject.member_of("g", topic)?.with_start(start)).await
}

/// A time between two events: brokers tell times apart by the millisecond at least.
pub(super) async fn a_time_between() -> Timestamp {
    const TICK: Duration = Duration::from_millis(5);
    tokio::time::sleep(TICK).await;
    let now = Timestamp::now();
    tokio::time::sleep(TICK).await;
    now
}

async fn a_new_group_begins_with_what_was_published_before_it_or_with_its_making<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    publish(&subject, &topic, 0..20).await?;
    let mut member = join_at(&subject, &topic, StartAt::Beginning).await?;
    if subject.expected.history {
        member.expect(0..20).await?;
    }
    publish(&subject, &topic, 20..30).await?;
    member.expect(20..30).await?;
    member.nothing().await
}

async fn a_group_that_begins_latest_skips_what_was_before<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    publish(&subject, &topic, 0..5).await?;
    let mut member = join_at(&subject, &topic, StartAt::Latest).await?;
    publish(&subject, &topic, 5..10).await?;
    member.expect(5..10).await?;
    member.nothing().await
}

async fn a_group_that_begins_at_a_time_skips_what_was_before_or_is_refused_by_name<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    if !subject.expected.start_at_time {
        let options = subject.member_of("g", &topic)?.with_start(StartAt::Time(Timestamp::now()));
        ensure_subscribe_refused(&subject, options, "start_at_time")?;
        ensure!(subject.info("g").await?.is_none(), "a refused group was made");
        return Ok(());
    }
    publish(&subject, &topic, 0..5).await?;
    let between = a_time_between().await;
    publish(&subject, &topic, 5..10).await?;
    let mut member = join_at(&subject, &topic, StartAt::Time(between)).await?;
    member.expect(5..10).await?;
    publish(&subject, &topic, 10..12).await?;
    member.expect(10..12).await?;
    member.nothing().await
}

async fn a_broadcast_subscriber_may_begin_at_a_time_or_is_refused_by_name<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let at = |time| {
        let options = SubscribeOptions::broadcast([Pattern::from(topic.clone())]);
        options.with_start(StartAt::Time(time))
    };
    if !subject.expected.start_at_time {
        return ensure_subscribe_refused(&subject, at(Timestamp::now()), "start_at_time");
    }
    publish(&subject, &topic, 0..5).await?;
    let between = a_time_between().await;
    publish(&subject, &topic, 5..10).await?;
    let mut listener = subject.subscribe(at(between)).await?;
    listener.expect(5..10).await?;
    listener.nothing().await
}

async fn where_to_begin_applies_only_to_a_new_group<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut first = join_at(&subject, &topic, StartAt::Latest).await?;
    publish(&subject, &topic, 0..5).await?;
    first.expect(0..3).await?;
    first.leave().await?;
    // What waits is neither skipped nor is what was acknowledged given again.
    let mut second = join_at(&subject, &topic, StartAt::Latest).await?;
    second.expect(3..5).await?;
    second.leave().await?;
    let mut third = join_at(&subject, &topic, StartAt::Beginning).await?;
    third.nothing().await
}

async fn between_the_beginning_and_now_nothing_is_missed_or_doubled<B: Broker>(
    subject: Subject<B>,
) -> Check {
    const LAST: u64 = 1_000_000;
    let topic = subject.topic("a")?;
    publish(&subject, &topic, 0..10).await?;
    let has_joined = AtomicBool::new(false);
    let publishing = async {
        let mut next = 10;
        // At least so many, and some after the group has begun.
        while next < 490 || !has_joined.load(Ordering::SeqCst) {
            subject.publish(&keyed(&topic, "k", next..next + 1)?).await?;
            tokio::task::yield_now().await;
            next += 1;
        }
        subject.publish(&keyed(&topic, "k", LAST..LAST + 1)?).await?;
        Ok::<_, Failure>(next)
    };
    let reading = async {
        tokio::task::yield_now().await;
        let mut member = join_at(&subject, &topic, StartAt::Beginning).await?;
        has_joined.store(true, Ordering::SeqCst);
        // Without a history the group begins somewhere on the way; from there on all of it comes.
        let mut due =
            if subject.expected.history { 0 } else { number(&member.event().await?)? + 1 };
        loop {
            let found = number(&member.event().await?)?;
            if found == LAST {
                member.nothing().await?;
                return Ok(due);
            }
            ensure_eq!(found, due, "the next number");
            due += 1;
        }
    };
    let (published, taken) = try_join(publishing, reading).await?;
    ensure_eq!(taken, published, "the number where it ended");
    Ok(())
}
