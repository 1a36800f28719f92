//! A full buffer makes the publisher wait, is an error, or drops the oldest: never anything else.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;
use tokio::time::{Instant, timeout};
use trunkline_core::{
    Broker, Error, ErrorKind, Event, GroupSpec, OnFull, Pattern, PublishOptions, RetryClass, Topic,
};

use super::{
    BrokerConditions, BrokerProperty, Need, PAUSE, SOON, Subject, elapsed_between, keyed, keyless,
    numbered, promise,
};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn in_process<B: Broker>() -> Vec<BrokerProperty<B>> {
    let small =
        BrokerConditions { buffer: Some(2), publish_timeout: Some(PAUSE), ..Default::default() };
    vec![
        promise!(a_publisher_waits_for_room_and_goes_on),
        promise!(a_publisher_that_waited_its_time_gets_full),
        promise!(the_brokers_own_buffer_and_time_limit_apply_by_default).under(small),
        promise!(on_full_error_is_full_at_once),
        promise!(on_full_drop_oldest_keeps_the_newest_and_never_waits).needs(&[Need::DropOldest]),
        promise!(a_handler_never_waits_for_its_own_group),
        promise!(with_one_group_full_the_event_is_enqueued_nowhere),
        promise!(a_full_group_fails_its_own_events_of_a_batch_only),
        promise!(waiting_publishers_all_get_room_in_the_end),
    ]
}

/// Declares a group that keeps `buffer` undelivered events.
async fn declare<B: Broker>(
    subject: &Subject<B>,
    group: &str,
    topic: &Topic,
    buffer: usize,
    on_full: OnFull,
) -> Check {
    let mut spec = GroupSpec::new(subject.group(group)?, [Pattern::from(topic.clone())]);
    spec.buffer = Some(buffer);
    spec.on_full = on_full;
    Ok(subject.admin()?.declare_group(spec).await?)
}

async fn publish_one<B: Broker>(
    subject: &Subject<B>,
    event: Event,
    options: &PublishOptions,
) -> Result<(), Error> {
    subject.broker.publish(&[event], options).await.into_result()
}

fn waiting_at_most(limit: Duration) -> PublishOptions {
    PublishOptions::default().with_timeout(limit)
}

fn ensure_full(outcome: Result<(), Error>) -> Check {
    let Err(error) = outcome else {
        return Err(Failure::new("an event was accepted for which there is no room"));
    };
    ensure_eq!(error.kind(), ErrorKind::Full, "the kind of `{error}`");
    ensure_eq!(error.retry(), RetryClass::Transient, "the retry class of `{error}`");
    Ok(())
}

async fn a_publisher_waits_for_room_and_goes_on<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    declare(&subject, "g", &topic, 2, OnFull::Block).await?;
    subject.publish(&keyed(&topic, "k", 0..2)?).await?;
    let options = waiting_at_most(SOON);
    let batch = keyed(&topic, "k", 2..10)?;
    let mut publishing = std::pin::pin!(subject.publish_with(&batch, &options));
    let early = timeout(PAUSE, publishing.as_mut()).await;
    ensure!(early.is_err(), "a publish into a full buffer ended: {early:?}");
    let mut member = subject.join("g", &topic).await?;
    try_join(publishing, member.expect(0..10)).await.map(drop)
}

async fn a_publisher_that_waited_its_time_gets_full<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    declare(&subject, "g", &topic, 1, OnFull::Block).await?;
    subject.publish_one(&numbered(&topic, None, 0)?).await?;
    let begun = Instant::now();
    ensure_full(publish_one(&subject, numbered(&topic, None, 1)?, &waiting_at_most(PAUSE)).await)?;
    elapsed_between(begun, PAUSE, SOON)?;
    let mut member = subject.join("g", &topic).await?;
    member.expect([0]).await?;
    member.nothing().await
}

async fn the_brokers_own_buffer_and_time_limit_apply_by_default<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    subject.publish(&keyless(&topic, 0..2)?).await?;
    let begun = Instant::now();
    ensure_full(publish_one(&subject, numbered(&topic, None, 2)?, &Default::default()).await)?;
    elapsed_between(begun, PAUSE, SOON / 4)
}

async fn on_full_error_is_full_at_once<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    declare(&subject, "g", &topic, 1, OnFull::Error).await?;
    let options = waiting_at_most(SOON);
    publish_one(&subject, numbered(&topic, None, 0)?, &options).await?;
    let begun = Instant::now();
    ensure_full(publish_one(&subject, numbered(&topic, None, 1)?, &options).await)?;
    elapsed_between(begun, Duration::ZERO, SOON / 4)
}

async fn on_full_drop_oldest_keeps_the_newest_and_never_waits<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let options = trunkline_core::SubscribeOptions::broadcast([Pattern::from(topic.clone())])
        .with_buffer(3, OnFull::DropOldest);
    let mut listener = subject.subscribe(options).await?;
    let begun = Instant::now();
    let _group = subject.join("g", &topic).await?;
    subject.publish_with(&keyed(&topic, "k", 0..100)?, &waiting_at_most(SOON)).await?;
    elapsed_between(begun, Duration::ZERO, SOON / 4)?;
    listener.expect(97..100).await?;
    listener.nothing().await
}

async fn a_handler_never_waits_for_its_own_group<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    declare(&subject, "own", &topic, 1, OnFull::Block).await?;
    subject.publish_one(&numbered(&topic, None, 0)?).await?;
    let options = waiting_at_most(SOON).with_from_group(subject.group("own")?);
    let begun = Instant::now();
    ensure_full(publish_one(&subject, numbered(&topic, None, 1)?, &options).await)?;
    elapsed_between(begun, Duration::ZERO, SOON / 4)
}

async fn with_one_group_full_the_event_is_enqueued_nowhere<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    // Names on both sides of the full one, so that its place in any order does not matter.
    let mut before = subject.join("a-before", &topic).await?;
    declare(&subject, "full", &topic, 1, OnFull::Error).await?;
    let mut after = subject.join("z-after", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    subject.publish_one(&numbered(&topic, None, 0)?).await?;
    for number in 1..5 {
        ensure_full(
            publish_one(&subject, numbered(&topic, None, number)?, &Default::default()).await,
        )?;
    }
    let mut full = subject.join("full", &topic).await?;
    for taker in [&mut before, &mut after, &mut listener, &mut full] {
        taker.expect([0]).await?;
        taker.nothing().await?;
    }
    subject.publish_one(&numbered(&topic, None, 9)?).await?;
    for taker in [&mut before, &mut after, &mut listener, &mut full] {
        taker.expect([9]).await?;
    }
    Ok(())
}

async fn a_full_group_fails_its_own_events_of_a_batch_only<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let (full, free) = (subject.topic("full")?, subject.topic("free")?);
    declare(&subject, "full", &full, 2, OnFull::Error).await?;
    let mut member = subject.join("free", &free).await?;
    let mut batch = keyed(&full, "k", 0..4)?;
    batch.insert(2, numbered(&free, Some("k"), 10)?);
    batch.push(numbered(&free, Some("k"), 11)?);
    let result = subject.broker.publish(&batch, &Default::default()).await;
    let failed: Vec<_> = result.failures().map(|(place, error)| (place, error.kind())).collect();
    ensure_eq!(failed, [(3, ErrorKind::Full), (4, ErrorKind::Aborted)], "what failed");
    member.expect([10, 11]).await?;
    let mut slow = subject.join("full", &full).await?;
    slow.expect([0, 1]).await?;
    slow.nothing().await
}

async fn waiting_publishers_all_get_room_in_the_end<B: Broker>(subject: Subject<B>) -> Check {
    let (one, two) = (subject.topic("a.one")?, subject.topic("a.two")?);
    let subject = Arc::new(subject);
    // Two small groups that both take both topics: publishers want room in two queues at once.
    for group in ["g", "h"] {
        for topic in [&one, &two] {
            declare(&subject, group, topic, 1, OnFull::Block).await?;
        }
    }
    let mut publishers = tokio::task::JoinSet::new();
    for (at, topic) in [&one, &two, &one, &two].into_iter().enumerate() {
        let (subject, topic, first) = (Arc::clone(&subject), topic.clone(), at as u64 * 50);
        publishers.spawn(async move {
            let batch = keyless(&topic, first..first + 50)?;
            subject.publish_with(&batch, &waiting_at_most(SOON)).await
        });
    }
    let mut members = [subject.join("g", &one).await?, subject.join("h", &one).await?];
    let [g, h] = &mut members;
    try_join(g.expect_all(0..200), h.expect_all(0..200)).await?;
    while let Some(published) = publishers.join_next().await {
        published.map_err(|cause| Failure::new(format!("a publisher stopped: {cause}")))??;
    }
    Ok(())
}
