//! Broadcast subscribers: each gets every event that is published while it lives.

use trunkline_core::{Audience, Broker, PublishOptions};

use super::{BrokerProperty, Crew, Subject, ack, keyed, keyless, numbered, promise};
use crate::failure::{Check, ensure};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(every_broadcast_subscriber_gets_every_event),
        promise!(a_broadcast_subscriber_gets_what_is_published_from_now_on),
        promise!(a_broadcast_subscriber_beside_a_group_takes_nothing_from_it),
        promise!(broadcast_only_reaches_subscribers_and_no_group),
        promise!(broadcast_only_to_nobody_is_no_error),
        promise!(an_unsettled_broadcast_delivery_comes_back_to_its_own_subscriber),
    ]
}

async fn every_broadcast_subscriber_gets_every_event<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(subject.listen(&topic).await?);
    }
    subject.publish(&keyed(&topic, "k", 0..100)?).await?;
    for listener in &mut listeners {
        listener.expect(0..100).await?;
        listener.nothing().await?;
    }
    Ok(())
}

async fn a_broadcast_subscriber_gets_what_is_published_from_now_on<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let _group = subject.join("g", &topic).await?;
    subject.publish(&keyless(&topic, 0..5)?).await?;
    let mut late = subject.listen(&topic).await?;
    subject.publish(&keyless(&topic, 5..10)?).await?;
    late.expect_all(5..10).await?;
    late.nothing().await
}

async fn a_broadcast_subscriber_beside_a_group_takes_nothing_from_it<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut listener = subject.listen(&topic).await?;
    let mut crew = Crew::new([subject.join("g", &topic).await?]);
    crew.add(subject.join("g", &topic).await?);
    subject.publish(&keyless(&topic, 0..50)?).await?;
    crew.take(50).await?;
    crew.nothing().await?;
    listener.expect_all(0..50).await
}

async fn broadcast_only_reaches_subscribers_and_no_group<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    let only = PublishOptions::default().with_audience(Audience::BroadcastOnly);
    subject.publish_with(&keyed(&topic, "k", 0..3)?, &only).await?;
    subject.publish(&keyed(&topic, "k", 3..5)?).await?;
    listener.expect(0..5).await?;
    member.expect(3..5).await?;
    member.nothing().await
}

async fn broadcast_only_to_nobody_is_no_error<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let only = PublishOptions::default().with_audience(Audience::BroadcastOnly);
    subject.publish_with(&keyless(&topic, 0..3)?, &only).await?;
    let mut listener = subject.listen(&topic).await?;
    listener.nothing().await
}

async fn an_unsettled_broadcast_delivery_comes_back_to_its_own_subscriber<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut one = subject.listen(&topic).await?;
    let mut two = subject.listen(&topic).await?;
    subject.publish_one(&numbered(&topic, Some("k"), 1)?).await?;
    drop(one.next().await?);
    let again = one.next().await?;
    ensure!(again.attempts() == 0, "a dropped delivery counts {} attempts", again.attempts());
    ack(again).await?;
    two.expect([1]).await?;
    two.nothing().await?;
    one.nothing().await
}
