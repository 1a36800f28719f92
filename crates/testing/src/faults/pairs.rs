//! What one process does and another one sees, and what many short subscriptions leave on a server of
//! their own.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::future::{join, join_all};
use trunkline_core::{Broker, PublishOptions, SubscribeOptions};

use super::property::{on_everybodys_server, on_its_own_server};
use super::{FaultProperty, Scene};
use crate::broker::{SOON, keyless, leave_nothing_behind, numbered};
use crate::failure::Check;

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_everybodys_server!(a_pattern_takes_topics_that_another_process_makes_later),
        on_everybodys_server!(what_a_close_has_flushed_reaches_another_process),
        on_its_own_server!(short_subscriptions_leave_nothing_behind).once(),
    ]
}

async fn a_pattern_takes_topics_that_another_process_makes_later<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let (subject, maker) = (scene.process().await?, scene.process().await?);
    let count = scene.variation().later(20, 20);
    let options = SubscribeOptions::group(subject.group("g")?, [subject.pattern("*.placed")?]);
    let mut member = subject.subscribe(options).await?;
    let broadcast = SubscribeOptions::broadcast([subject.pattern("#")?]);
    let mut listener = subject.subscribe(broadcast).await?;
    for number in 0..count {
        // Every topic is new, and only the other process knows of it.
        let topic = maker.topic(&format!("shop-{number}.placed"))?;
        maker.publish_one(&numbered(&topic, None, number)?).await?;
    }
    member.expect_all(0..count).await?;
    listener.expect_all(0..count).await?;
    member.nothing().await?;
    listener.nothing().await
}

async fn what_a_close_has_flushed_reaches_another_process<B: Broker>(scene: Scene<B>) -> Check {
    let (closing, reader) = (scene.process().await?, scene.process().await?);
    let count = scene.variation().later(8, 16);
    let topic = reader.topic("a")?;
    reader.declare("g", &topic).await?;
    let batches = (0..count).map(|at| keyless(&topic, at * 100..at * 100 + 100));
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    let options = PublishOptions::default();
    let publishing = batches.iter().map(|batch| closing.broker.publish(batch, &options));
    let mut publishing = std::pin::pin!(join_all(publishing));
    // Begun, and most likely not answered.
    let begun = poll_fn(|cx| Poll::Ready(publishing.as_mut().poll(cx))).await;
    let results = match begun {
        Poll::Ready(results) => {
            closing.broker.close(SOON).await?;
            results
        }
        Poll::Pending => {
            let (results, closed) = join(publishing, closing.broker.close(SOON)).await;
            closed?;
            results
        }
    };
    for result in results {
        result.into_result()?;
    }
    let mut member = reader.join("g", &topic).await?;
    member.expect_all(0..count * 100).await?;
    member.nothing().await
}

async fn short_subscriptions_leave_nothing_behind<B: Broker>(scene: Scene<B>) -> Check {
    leave_nothing_behind(scene.process().await?).await
}
