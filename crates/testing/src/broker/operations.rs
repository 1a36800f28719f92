//! What the operations tools say, and requests and replies.

use std::collections::BTreeSet;

use futures_util::future::try_join;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use trunkline_core::{Broker, BrokerExt as _, Data, DomainEvent, Event, HealthStatus, Topic};

use super::{BrokerProperty, SOON, Subject, ack, eventually, number, patience, promise, spread};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_broker_that_works_is_up),
        promise!(lag_and_what_is_out_are_counted),
        promise!(members_are_counted),
        promise!(a_request_gets_its_reply),
    ]
}

async fn a_broker_that_works_is_up<B: Broker>(subject: Subject<B>) -> Check {
    let health = subject.broker.health().await;
    ensure_eq!(health.status, HealthStatus::Up, "the health, with {:?},", health.facts);
    Ok(())
}

async fn ensure_counts<B: Broker>(subject: &Subject<B>, lag: u64, in_flight: u64) -> Check {
    let what = format!("the lag is {lag} and {in_flight} are out");
    let counted = || async {
        let info = subject.info("g").await?;
        Ok(info.is_some_and(|info| (info.lag, info.in_flight) == (lag, in_flight)))
    };
    eventually(patience(), &what, counted).await
}

async fn lag_and_what_is_out_are_counted<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    ensure_counts(&subject, 0, 0).await?;
    // Of many keys: a member may share its prefetch out among partitions.
    subject.publish(&spread(&topic, 40, 0..40)?).await?;
    ensure_counts(&subject, 40, 0).await?;
    let mut member = subject.subscribe(subject.member_of("g", &topic)?.with_prefetch(4)).await?;
    let out = member.take(4).await?;
    ensure_counts(&subject, 36, 4).await?;
    // Which of them come first is up to the broker.
    let mut left: BTreeSet<u64> = (0..40).collect();
    for delivery in out {
        left.remove(&number(delivery.event())?);
        ack(delivery).await?;
    }
    member.expect_all(left).await?;
    ensure_counts(&subject, 0, 0).await
}

async fn members_are_counted<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut members = Vec::new();
    for wanted in [1, 2, 3] {
        members.push(subject.join("g", &topic).await?);
        ensure_members(&subject, wanted).await?;
    }
    for wanted in [2, 1, 0] {
        if let Some(member) = members.pop() {
            member.leave().await?;
        }
        ensure_members(&subject, wanted).await?;
    }
    Ok(())
}

async fn ensure_members<B: Broker>(subject: &Subject<B>, wanted: usize) -> Check {
    let counted =
        || async { Ok(subject.info("g").await?.is_some_and(|info| info.members == wanted)) };
    eventually(patience(), &format!("the group has {wanted} members"), counted).await
}

/// The answer of [`a_request_gets_its_reply`].
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    doubled: u64,
}

impl DomainEvent for Answer {
    const TYPE: &'static str = "Answer";
    const TOPIC: Topic = Topic::from_static("answers");
}

async fn a_request_gets_its_reply<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("questions")?;
    let mut responder = subject.join("g", &topic).await?;
    let answering = async {
        for _ in 0..2 {
            let request = responder.event().await?;
            let doubled = 2 * number(&request)?;
            subject.broker.reply(&request, Answer { doubled }).await?;
        }
        Check::Ok(())
    };
    let asking = async {
        for number in [21, 4] {
            let data = Data::json(number.to_string());
            let request = Event::from_data("Question", topic.clone(), data).build()?;
            let Ok(reply) = timeout(SOON, subject.broker.request(&request)).await else {
                return Err(Failure::new("no reply came"));
            };
            let reply = reply?;
            let answer = reply.typed::<Answer>()?;
            ensure_eq!(answer.doubled, number * 2, "the answer to {number}");
            let cause = reply.attributes().causation();
            ensure!(cause == Some(request.id()), "the reply is caused by {cause:?}");
        }
        Check::Ok(())
    };
    try_join(answering, asking).await.map(drop)
}
