//! What one publish overrides of how its events are placed: honoured, or refused before anything is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, Error, ErrorKind, PublishOptions, RetryClass};

use super::{BrokerProperty, Crew, Need, Subject, numbered, patience, promise, spread};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(an_override_that_it_lacks_is_refused_by_name_and_nothing_is_sent),
        promise!(a_chosen_partition_takes_every_key_to_one_member).needs(&[Need::Partition]),
        promise!(a_routing_key_takes_an_event_to_who_binds_it).needs(&[Need::Exchange]),
        promise!(an_exchange_that_is_not_there_fails_its_publish_alone).needs(&[Need::Exchange]),
        promise!(added_headers_change_neither_data_nor_attributes).needs(&[Need::Headers]),
    ]
}

async fn an_override_that_it_lacks_is_refused_by_name_and_nothing_is_sent<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let has = &subject.expected;
    let plain = PublishOptions::default;
    let overrides = [
        (has.partition, "partition", plain().with_partition(0)),
        (has.exchange, "exchange", plain().with_exchange("elsewhere")),
        (has.exchange, "exchange", plain().with_routing_key("elsewhere")),
        (has.headers, "headers", plain().with_header("x-mark", "1")),
    ];
    for (has, capability, options) in overrides {
        if has {
            continue;
        }
        let batch = [numbered(&topic, None, 1)?];
        let refused = subject.broker.publish(&batch, &options).await.into_result();
        ensure_refused(refused, capability, &subject)?;
    }
    member.nothing().await
}

fn ensure_refused<B: Broker>(
    outcome: Result<(), Error>,
    capability: &str,
    subject: &Subject<B>,
) -> Check {
    let Err(error) = outcome else {
        return Err(Failure::new(format!("`{capability}` was accepted by a broker without it")));
    };
    ensure_eq!(error.kind(), ErrorKind::Unsupported, "the kind of `{error}`");
    ensure_eq!(error.retry(), RetryClass::Misuse, "the retry class of `{error}`");
    ensure_eq!(error.context("capability"), Some(capability), "what `{error}` names");
    ensure_eq!(error.context("broker"), Some(subject.expected.name), "whom `{error}` names");
    Ok(())
}

async fn a_chosen_partition_takes_every_key_to_one_member<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut crew = Crew::new([]);
    for _ in 0..2 {
        crew.add(subject.join("g", &topic).await?);
    }
    // Without the override both get a part, once the group has settled how to share.
    let deadline = Instant::now() + patience();
    loop {
        subject.publish(&spread(&topic, 60, 0..60)?).await?;
        let members: BTreeSet<usize> = crew.take(60).await?.iter().map(|got| got.0).collect();
        if members.len() == 2 {
            break;
        }
        ensure!(Instant::now() < deadline, "one of two members gets nothing");
    }
    let chosen = PublishOptions::default().with_partition(0);
    subject.publish_with(&spread(&topic, 60, 60..120)?, &chosen).await?;
    let members: BTreeSet<usize> = crew.take(60).await?.iter().map(|got| got.0).collect();
    ensure_eq!(members.len(), 1, "how many members got events of one partition");
    crew.nothing().await
}

async fn a_routing_key_takes_an_event_to_who_binds_it<B: Broker>(subject: Subject<B>) -> Check {
    let (named, bound) = (subject.topic("named")?, subject.topic("bound")?);
    let mut by_name = subject.join("named", &named).await?;
    let mut by_key = subject.join("bound", &bound).await?;
    let options = PublishOptions::default().with_routing_key(bound.as_str());
    subject.publish_with(&[numbered(&named, Some("k"), 7)?], &options).await?;
    by_key.expect([7]).await?;
    by_name.nothing().await
}

async fn an_exchange_that_is_not_there_fails_its_publish_alone<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let nowhere = PublishOptions::default().with_exchange("no-such-exchange");
    let batch = [numbered(&topic, Some("k"), 1)?];
    let limit = Duration::from_secs(10);
    match tokio::time::timeout(limit, subject.broker.publish(&batch, &nowhere)).await {
        Err(_) => return Err(Failure::new(format!("no answer came within {limit:?}"))),
        Ok(result) => ensure!(!result.is_ok(), "an exchange that is not there took an event"),
    }
    subject.publish_one(&numbered(&topic, Some("k"), 2)?).await?;
    member.expect([2]).await?;
    member.nothing().await
}

async fn added_headers_change_neither_data_nor_attributes<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let options =
        PublishOptions::default().with_header("x-mark", "one").with_header("x-bytes", vec![0, 255]);
    let sent = numbered(&topic, Some("k"), 7)?;
    subject.publish_with(std::slice::from_ref(&sent), &options).await?;
    let got = member.event().await?;
    ensure_eq!(got.data()?, sent.data()?, "the data");
    let count = |event: &trunkline_core::Event| {
        let mut names = BTreeSet::new();
        event.attributes().visit(|name, _| names.extend([name.to_owned()]));
        names
    };
    ensure_eq!(count(&got), count(&sent), "the names of the attributes");
    Ok(())
}
