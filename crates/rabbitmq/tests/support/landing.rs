//! Acknowledgements right before a close: the server's quorum client drops what it has not sent yet.

use std::collections::BTreeSet;
use std::time::Duration;

use trunkline_core::{
    Broker as _, Data, Event, Group, Pattern, PublishOptions, Result, SubscribeOptions,
    SubscriptionExt as _, Topic,
};
use trunkline_launcher::{Kind, Server};
use trunkline_rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use trunkline_testing::{Check, Failure};

const EVENTS: usize = 200;
const SOON: Duration = Duration::from_secs(10);
/// What is lost is a matter of timing: once in some closes is enough to notice.
const ROUNDS: usize = 10;

/// Settles every other of many deliveries, so that none can be acknowledged with another, closes at
/// once, and counts what comes again all the same.
async fn come_again(broker: &RabbitMqBroker, round: usize) -> Result<usize> {
    let (topic, group) = (Topic::new(format!("a.{round}"))?, Group::new(format!("g.{round}"))?);
    let options = SubscribeOptions::group(group, [Pattern::from(topic.clone())]);
    let options = options.with_prefetch(EVENTS);
    let mut first = broker.subscribe(options.clone()).await?;
    let events: Vec<Event> = (0..EVENTS)
        .map(|number| {
            let data = Data::json(number.to_string());
            Event::from_data("Numbered", topic.clone(), data).build()
        })
        .collect::<Result<_>>()?;
    broker.publish(&events, &PublishOptions::default()).await.into_result()?;
    let (mut settled, mut kept) = (BTreeSet::new(), Vec::new());
    for place in 0..EVENTS {
        let Some(delivery) = first.next().await? else { break };
        if place % 2 == 0 {
            kept.push(delivery);
        } else {
            settled.insert(delivery.event().id().to_string());
            delivery.ack().await.map_err(|unsettled| unsettled.error)?;
        }
    }
    drop(kept);
    first.close(SOON).await?;
    let mut second = broker.subscribe(options).await?;
    let (mut left, mut again) = (EVENTS - settled.len(), 0);
    while left > 0 {
        let Some(delivery) = second.next().await? else { break };
        match settled.contains(&delivery.event().id().to_string()) {
            true => again += 1,
            false => left -= 1,
        }
        delivery.ack().await.map_err(|unsettled| unsettled.error)?;
    }
    second.close(SOON).await?;
    Ok(again)
}

/// Fails when an acknowledgement right before a close does not land.
pub(crate) async fn acknowledgements_right_before_a_close_land(
    configure: impl FnOnce(RabbitMqConfig) -> RabbitMqConfig,
) -> Check {
    // Blocks for as long as a server takes to start.
    let server = tokio::task::spawn_blocking(|| Server::start(Kind::RabbitMq))
        .await
        .map_err(|cause| Failure::new(format!("the start of the server has ended: {cause}")))?
        .map_err(|cause| Failure::new(format!("the server does not start: {cause}")))?;
    let config = RabbitMqConfig::new(&server.url())?.with_partitions(1);
    let broker = RabbitMqBroker::connect(configure(config)).await?;
    for round in 0..ROUNDS {
        let count = come_again(&broker, round).await?;
        if count > 0 {
            return Err(Failure::new(format!("{count} settled deliveries came again")));
        }
    }
    Ok(broker.close(SOON).await?)
}
