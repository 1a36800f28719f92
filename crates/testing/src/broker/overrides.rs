//! What one publish overrides of how its events are placed: honoured, or refused before anything is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, PublishOptions};

use super::refusal::ensure_publish_refused;
use super::{BrokerProperty, Crew, Subject, numbered, patience, promise, spread};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_chosen_partition_takes_every_key_to_one_member_or_is_refused_by_name),
        promise!(a_routing_key_takes_an_event_to_who_binds_it_or_is_refused_by_name),
        promise!(an_exchange_that_is_not_there_fails_its_publish_alone),
        promise!(added_headers_change_neither_data_nor_attributes_or_are_refused_by_name),
    ]
}

/// A broker that lacks an override refuses it by name, sends nothing, and goes on.
async fn ensure_override_refused<B: Broker>(
    subject: &Subject<B>,
    options: &PublishOptions,
    capability: &str,
) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    ensure_publish_refused(subject, numbered(&topic, Some("k"), 1)?, options, capability)?;
    subject.publish_one(&numbered(&topic, Some("k"), 2)?).await?;
    member.expect([2]).await?;
    member.nothing().await
}

async fn a_chosen_partition_takes_every_key_to_one_member_or_is_refused_by_name<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let chosen = PublishOptions::default().with_partition(0);
    if !subject.expected.partition {
        return ensure_override_refused(&subject, &chosen, "partition").await;
    }
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
    subject.publish_with(&spread(&topic, 60, 60..120)?, &chosen).await?;
    let members: BTreeSet<usize> = crew.take(60).await?.iter().map(|got| got.0).collect();
    ensure_eq!(members.len(), 1, "how many members got events of one partition");
    crew.nothing().await
}

async fn a_routing_key_takes_an_event_to_who_binds_it_or_is_refused_by_name<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let (named, bound) = (subject.topic("named")?, subject.topic("bound")?);
    let options = PublishOptions::default().with_routing_key(bound.as_str());
    if !subject.expected.exchange {
        return ensure_override_refused(&subject, &options, "exchange").await;
    }
    let mut by_name = subject.join("named", &named).await?;
    let mut by_key = subject.join("bound", &bound).await?;
    subject.publish_with(&[numbered(&named, Some("k"), 7)?], &options).await?;
    by_key.expect([7]).await?;
    by_name.nothing().await
}

async fn an_exchange_that_is_not_there_fails_its_publish_alone<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let nowhere = PublishOptions::default().with_exchange("no-such-exchange");
    if !subject.expected.exchange {
        return ensure_override_refused(&subject, &nowhere, "exchange").await;
    }
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
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

async fn added_headers_change_neither_data_nor_attributes_or_are_refused_by_name<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let options =
        PublishOptions::default().with_header("x-mark", "one").with_header("x-bytes", vec![0, 255]);
    if !subject.expected.headers {
        return ensure_override_refused(&subject, &options, "headers").await;
    }
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let sent = numbered(&topic, Some("k"), 7)?;
    let caught = subject.hooks.tap(&topic).await?;
    subject.publish_with(std::slice::from_ref(&sent), &options).await?;
    let headers = caught.await?;
    for (name, value) in [("x-mark", &b"one"[..]), ("x-bytes", &[0, 255])] {
        let found = headers.iter().find(|(found, _)| found == name);
        ensure_eq!(found.map(|(_, value)| &value[..]), Some(value), "`{name}` of {headers:?}");
    }
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
