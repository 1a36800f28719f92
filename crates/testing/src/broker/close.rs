//! Closing refuses what comes later, ends subscriptions, and can be asked for at any time.

use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures_util::future::{join, join_all, try_join, try_join3};
use tokio::task::JoinSet;
use trunkline_core::{
    Broker, Error, ErrorKind, GroupSpec, HealthStatus, Pattern, PublishOptions, RetryClass,
};

use super::{BrokerProperty, PAUSE, SOON, Subject, eventually, keyless, numbered, promise};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_closed_broker_refuses_everything_and_is_down),
        promise!(closing_ends_every_subscription),
        promise!(closing_again_and_at_once_is_fine),
        promise!(closing_under_publishers_is_told_to_each_of_them),
        promise!(closing_flushes_what_is_being_published),
        promise!(subscribing_and_leaving_at_once_loses_nothing),
    ]
}

pub(super) fn in_process<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![promise!(closing_releases_a_publisher_that_waits_for_room)]
}

fn ensure_closed<T>(what: &str, outcome: Result<T, Error>) -> Check {
    let Err(error) = outcome else {
        return Err(Failure::new(format!("{what} was accepted by a closed broker")));
    };
    ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of `{error}` from {what}");
    ensure_eq!(error.retry(), RetryClass::Closed, "the retry class of `{error}` from {what}");
    Ok(())
}

async fn a_closed_broker_refuses_everything_and_is_down<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    subject.broker.close(SOON).await?;
    let batch = keyless(&topic, 0..2)?;
    let result = subject.broker.publish(&batch, &PublishOptions::default()).await;
    ensure_eq!(result.failures().len(), 2, "the number of events refused");
    ensure_closed("a publish", result.into_result())?;
    let options = subject.member_of("g", &topic)?;
    ensure_closed("a subscribe", subject.broker.subscribe(options).await)?;
    let spec = GroupSpec::new(subject.group("h")?, [Pattern::from(topic)]);
    ensure_closed("a group", subject.admin()?.declare_group(spec).await)?;
    let health = subject.broker.health().await;
    ensure_eq!(health.status, HealthStatus::Down, "the health of a closed broker");
    Ok(())
}

async fn closing_ends_every_subscription<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    // One of them is waiting while the broker closes.
    let closing = async { Ok(subject.broker.close(SOON).await?) };
    try_join(member.ends(), closing).await?;
    listener.ends().await?;
    member.ends().await
}

async fn closing_again_and_at_once_is_fine<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let _member = subject.join("g", &topic).await?;
    let broker = &subject.broker;
    try_join3(broker.close(SOON), broker.close(SOON), broker.close(SOON)).await?;
    Ok(broker.close(SOON).await?)
}

async fn closing_under_publishers_is_told_to_each_of_them<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let (subject, accepted) = (Arc::new(subject), Arc::new(AtomicUsize::new(0)));
    let mut publishers = JoinSet::new();
    for _ in 0..4 {
        let (subject, accepted, topic) =
            (Arc::clone(&subject), Arc::clone(&accepted), topic.clone());
        publishers.spawn(async move {
            loop {
                let batch = [numbered(&topic, Some("k"), 0)?];
                let result = subject.broker.publish(&batch, &PublishOptions::default()).await;
                if result.is_ok() {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                } else {
                    return ensure_closed("a publish", result.into_result());
                }
            }
        });
    }
    for _ in 0..100 {
        member.event().await?;
    }
    let broker = &subject.broker;
    try_join3(broker.close(SOON), broker.close(SOON), broker.close(SOON)).await?;
    while let Some(ended) = publishers.join_next().await {
        ended.map_err(|cause| Failure::new(format!("a publisher stopped: {cause}")))??;
    }
    ensure!(accepted.load(Ordering::Relaxed) >= 100, "fewer were accepted than came out");
    Ok(())
}

async fn closing_flushes_what_is_being_published<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let batches = (0..8).map(|at| keyless(&topic, at * 100..at * 100 + 100));
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    let options = PublishOptions::default();
    let publishing = batches.iter().map(|batch| subject.broker.publish(batch, &options));
    let mut publishing = std::pin::pin!(join_all(publishing));
    // Begun, and most likely not answered.
    let begun = poll_fn(|cx| Poll::Ready(publishing.as_mut().poll(cx))).await;
    let results = match begun {
        Poll::Ready(results) => {
            subject.broker.close(SOON).await?;
            results
        }
        Poll::Pending => {
            let (results, closed) = join(publishing, subject.broker.close(SOON)).await;
            closed?;
            results
        }
    };
    for result in results {
        result.into_result()?;
    }
    Ok(())
}

async fn closing_releases_a_publisher_that_waits_for_room<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut spec = GroupSpec::new(subject.group("g")?, [Pattern::from(topic.clone())]);
    spec.buffer = Some(1);
    subject.admin()?.declare_group(spec).await?;
    subject.publish_one(&numbered(&topic, None, 0)?).await?;
    let options = PublishOptions::default().with_timeout(SOON * 10);
    let batch = [numbered(&topic, None, 1)?];
    let mut waiting = std::pin::pin!(subject.broker.publish(&batch, &options));
    let early = tokio::time::timeout(PAUSE, waiting.as_mut()).await;
    ensure!(early.is_err(), "a publish into a full buffer ended: {early:?}");
    subject.broker.close(SOON).await?;
    match tokio::time::timeout(SOON, waiting).await {
        Ok(result) => ensure_closed("a waiting publish", result.into_result()),
        Err(_) => Err(Failure::new("a publisher waits for a closed broker")),
    }
}

async fn subscribing_and_leaving_at_once_loses_nothing<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let coming_and_going = || async {
        for _ in 0..10 {
            subject.join("g", &topic).await?.leave().await?;
        }
        Check::Ok(())
    };
    let publishing = async {
        for number in 0..50 {
            subject.publish_one(&numbered(&topic, None, number)?).await?;
            tokio::task::yield_now().await;
        }
        Check::Ok(())
    };
    try_join3(publishing, coming_and_going(), coming_and_going()).await?;
    let gone = || async { Ok(subject.info("g").await?.is_some_and(|info| info.members == 0)) };
    eventually(SOON, "every member has left", gone).await?;
    let mut member = subject.join("g", &topic).await?;
    member.expect_all(0..50).await?;
    member.nothing().await
}
