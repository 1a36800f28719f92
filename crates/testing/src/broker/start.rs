//! Where a new group begins.

use std::time::Duration;

use futures_util::future::try_join;
use jiff::Timestamp;
use trunkline_core::{Broker, Pattern, StartAt, SubscribeOptions, Topic};

use super::{BrokerProperty, Need, Subject, Taker, keyed, promise};
use crate::failure::{Check, Failure};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_new_group_begins_with_what_was_published_before_it).needs(&[Need::History]),
        promise!(a_group_that_begins_latest_skips_what_was_before),
        promise!(a_group_that_begins_at_a_time_skips_what_was_before).needs(&[Need::StartAtTime]),
        promise!(a_broadcast_subscriber_may_begin_at_a_time).needs(&[Need::StartAtTime]),
        promise!(where_to_begin_applies_only_to_a_new_group),
        promise!(between_history_and_now_nothing_is_missed_or_doubled).needs(&[Need::History]),
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
async fn a_time_between() -> Timestamp {
    const TICK: Duration = Duration::from_millis(5);
    tokio::time::sleep(TICK).await;
    let now = Timestamp::now();
    tokio::time::sleep(TICK).await;
    now
}

async fn a_new_group_begins_with_what_was_published_before_it<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    publish(&subject, &topic, 0..20).await?;
    let mut member = join_at(&subject, &topic, StartAt::Beginning).await?;
    member.expect(0..20).await?;
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

async fn a_group_that_begins_at_a_time_skips_what_was_before<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    publish(&subject, &topic, 0..5).await?;
    let between = a_time_between().await;
    publish(&subject, &topic, 5..10).await?;
    let mut member = join_at(&subject, &topic, StartAt::Time(between)).await?;
    member.expect(5..10).await?;
    publish(&subject, &topic, 10..12).await?;
    member.expect(10..12).await?;
    member.nothing().await
}

async fn a_broadcast_subscriber_may_begin_at_a_time<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    publish(&subject, &topic, 0..5).await?;
    let between = a_time_between().await;
    publish(&subject, &topic, 5..10).await?;
    let options = SubscribeOptions::broadcast([Pattern::from(topic.clone())])
        .with_start(StartAt::Time(between));
    let mut listener = subject.subscribe(options).await?;
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

async fn between_history_and_now_nothing_is_missed_or_doubled<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    publish(&subject, &topic, 0..10).await?;
    let publishing = async {
        for number in 10..500 {
            subject.publish(&keyed(&topic, "k", number..number + 1)?).await?;
            tokio::task::yield_now().await;
        }
        Check::Ok(())
    };
    let reading = async {
        tokio::task::yield_now().await;
        let mut member = join_at(&subject, &topic, StartAt::Beginning).await?;
        member.expect(0..500).await?;
        member.nothing().await
    };
    try_join(publishing, reading).await.map(drop)
}
