//! Where an event stands, and beginning there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use futures_util::FutureExt as _;
use trunkline_core::{
    Broker, BrokerPosition, ErrorKind, Pattern, StartAt, SubscribeOptions, Topic,
};

use super::refusal::ensure_subscribe_refused;
use super::start::a_time_between;
use super::{BrokerProperty, Subject, Taker, ack, number, numbered, promise, spread};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(a_group_that_begins_at_a_position_gets_it_and_all_after_or_is_refused_by_name),
        promise!(a_broadcast_subscriber_may_begin_at_a_position_or_is_refused_by_name),
        promise!(a_delivery_that_comes_back_stands_where_it_stood),
        promise!(a_position_that_the_broker_cannot_read_is_invalid_before_anything_is_sent),
    ]
}

/// Enough for several partitions to have some each.
const KEYS: u64 = 8;
/// A number before and after which others of its key and of other keys were published at once.
const AMID: u64 = 12;
/// A number that was published alone, some time after those before it.
const ALONE: u64 = 20;
const END: u64 = 40;

type Positions = BTreeMap<u64, BrokerPosition>;

/// Publishes the numbers up to [`END`]; returns where a group found them.
async fn publish<B: Broker>(subject: &Subject<B>, topic: &Topic) -> Result<Positions, Failure> {
    let mut reader = subject.join("reader", topic).await?;
    subject.publish(&spread(topic, KEYS, 0..ALONE)?).await?;
    a_time_between().await;
    subject.publish(&spread(topic, KEYS, ALONE..ALONE + 1)?).await?;
    subject.publish(&spread(topic, KEYS, ALONE + 1..END)?).await?;
    let positions = take(&mut reader, 0..END).await?;
    let texts: BTreeSet<_> = positions.values().map(ToString::to_string).collect();
    ensure_eq!(texts.len(), positions.len(), "the positions that differ");
    Ok(positions)
}

/// Takes until all of `wanted` have come, in the order of each key; returns all that came.
async fn take(taker: &mut Taker, wanted: Range<u64>) -> Result<Positions, Failure> {
    let mut missing: BTreeSet<u64> = wanted.collect();
    let mut last_of_key = BTreeMap::new();
    let mut positions = Positions::new();
    while !missing.is_empty() {
        let delivery = taker.next().await?;
        let found = number(delivery.event())?;
        let Some(position) = delivery.position() else {
            return Err(Failure::new(format!("number {found} stands nowhere")));
        };
        missing.remove(&found);
        let before = last_of_key.insert(found % KEYS, found);
        ensure!(before < Some(found), "number {found} came after {before:?} of its key");
        positions.insert(found, position);
        ack(delivery).await?;
    }
    Ok(positions)
}

/// A start at the position of `number`, kept as text meanwhile.
fn start_at(positions: &Positions, number: u64) -> Result<StartAt, Failure> {
    let position = positions.get(&number).map(ToString::to_string).unwrap_or_default();
    Ok(StartAt::Position(position.parse()?))
}

fn ensure_refused<B: Broker>(subject: &Subject<B>, options: SubscribeOptions) -> Check {
    let position = BrokerPosition::new(subject.expected.name, 1);
    let options = options.with_start(StartAt::Position(position));
    ensure_subscribe_refused(subject, options, "start_at_position")
}

async fn a_group_that_begins_at_a_position_gets_it_and_all_after_or_is_refused_by_name<
    B: Broker,
>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    if !subject.expected.start_at_position {
        ensure_refused(&subject, subject.member_of("g", &topic)?)?;
        ensure!(subject.info("g").await?.is_none(), "a refused group was made");
        return Ok(());
    }
    let positions = publish(&subject, &topic).await?;

    // All before it are older, in every partition.
    let at = start_at(&positions, ALONE)?;
    let mut member = subject.subscribe(subject.member_of("g", &topic)?.with_start(at)).await?;
    let found = take(&mut member, ALONE..END).await?;
    let first = found.keys().next().copied();
    ensure_eq!(first, Some(ALONE), "the first number");
    member.nothing().await?;
    member.leave().await?;

    // Others may be just as old, but those of its own key stand in its own partition.
    let at = start_at(&positions, AMID)?;
    let options = subject.member_of("amid", &topic)?.with_start(at.clone());
    let mut member = subject.subscribe(options).await?;
    let found = take(&mut member, ALONE..END).await?;
    let is_own = |number: &u64| number % KEYS == AMID % KEYS;
    let own: Vec<u64> = found.keys().copied().filter(is_own).collect();
    let wanted: Vec<u64> = (AMID..END).filter(is_own).collect();
    ensure_eq!(own, wanted, "the numbers of the key");
    member.nothing().await?;

    // Where to begin applies only to a new group.
    let mut known = subject.subscribe(subject.member_of("g", &topic)?.with_start(at)).await?;
    known.nothing().await
}

async fn a_broadcast_subscriber_may_begin_at_a_position_or_is_refused_by_name<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let options = SubscribeOptions::broadcast([Pattern::from(topic.clone())]);
    if !subject.expected.start_at_position {
        return ensure_refused(&subject, options);
    }
    let positions = publish(&subject, &topic).await?;
    let at = start_at(&positions, ALONE)?;
    let mut listener = subject.subscribe(options.with_start(at)).await?;
    let found = take(&mut listener, ALONE..END).await?;
    let wanted: Positions = positions.into_iter().filter(|(number, _)| *number >= ALONE).collect();
    ensure_eq!(found, wanted, "what came, and where it stands");
    subject.publish(&spread(&topic, KEYS, END..END + 4)?).await?;
    take(&mut listener, END..END + 4).await?;
    listener.nothing().await
}

async fn a_delivery_that_comes_back_stands_where_it_stood<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish_one(&numbered(&topic, Some("k"), 1)?).await?;
    let delivery = member.next().await?;
    let position = delivery.position();
    ensure!(
        position.is_some() || !subject.expected.start_at_position,
        "a broker that may begin at a position does not tell it"
    );
    drop(delivery);
    let again = member.next().await?;
    ensure_eq!(again.position(), position, "where it stands");
    ack(again).await
}

async fn a_position_that_the_broker_cannot_read_is_invalid_before_anything_is_sent<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let group = subject.member_of("g", &topic)?;
    let broadcast = SubscribeOptions::broadcast([Pattern::from(topic)]);
    if !subject.expected.start_at_position {
        return ensure_refused(&subject, group);
    }
    let name = subject.expected.name;
    let unreadable = [BrokerPosition::new(name, "garbage"), BrokerPosition::new("another", 1)];
    for position in unreadable {
        for options in [group.clone(), broadcast.clone()] {
            let options = options.with_start(StartAt::Position(position.clone()));
            match subject.broker.subscribe(options).now_or_never() {
                None => ensure!(false, "something was sent for `{position}`"),
                Some(Ok(_)) => ensure!(false, "`{position}` was accepted"),
                Some(Err(error)) => {
                    ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of `{error}`");
                }
            }
        }
    }
    ensure!(subject.info("g").await?.is_none(), "a refused group was made");
    Ok(())
}
