//! The connection breaks, with and without a sign of it.

use std::time::Duration;

use futures_util::future::try_join;
use tokio::time::Instant;
use trunkline_core::{Broker, ErrorKind, HealthStatus, Topic};

use super::load::publish_all;
use super::property::on_its_own_server;
use super::{FaultProperty, Scene};
use crate::broker::{SOON, Subject, Taker, ack, eventually, keyed, number, patience};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::proxy::{Connections, Direction, Mode, Proxy};

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_its_own_server!(a_connection_that_is_cut_recovers_by_itself),
        on_its_own_server!(a_connection_that_is_cut_within_a_frame_recovers_by_itself),
        on_its_own_server!(a_half_open_connection_recovers_by_itself),
        on_its_own_server!(answers_that_get_lost_end_in_a_retry_and_no_loss),
        on_its_own_server!(after_a_cut_an_event_runs_at_most_once_more_and_the_late_ack_is_refused),
    ]
}

/// How soon work goes on after a connection broke with a sign of it.
const AFTER_CUT: Duration = Duration::from_secs(15);

/// How soon work goes on after a connection went silent: heartbeats have to be missed first.
const AFTER_SILENCE: Duration = Duration::from_secs(45);

/// Publishes and handles until number `until` has come; nothing may be missing or out of order.
async fn flows<B: Broker>(
    subject: &Subject<B>,
    topic: &Topic,
    member: &mut Taker,
    numbers: std::ops::Range<u64>,
) -> Check {
    let publishing = async {
        for number in numbers.clone() {
            publish_all(subject, &keyed(topic, "k", number..number + 1)?).await?;
        }
        Ok(())
    };
    let mut due = numbers.start;
    let taking = async {
        while due < numbers.end {
            let delivery = member.next().await?;
            let found = number(delivery.event())?;
            // What was not acknowledged before the break comes again.
            ensure!(found <= due, "number {found} came where {due} is due");
            due = due.max(found + 1);
            // A connection that broke meanwhile takes the acknowledgement with it.
            drop(ack(delivery).await);
        }
        Ok(())
    };
    try_join(publishing, taking).await.map(drop)
}

/// Breaks the connection in this way while events flow, which has to go on within `limit`.
async fn ensure_recovers<B: Broker>(
    scene: Scene<B>,
    limit: Duration,
    break_it: impl FnOnce(&Proxy),
) -> Check {
    let before = scene.variation().later(50, 23);
    let all = before + 50;
    let (proxy, subject) = scene.process_behind_proxy().await?;
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    flows(&subject, &topic, &mut member, 0..before).await?;
    let (live, accepted) = (proxy.live(), proxy.accepted());
    ensure!(live > 0, "the broker has no connection through the proxy");
    break_it(&proxy);
    let begun = Instant::now();
    flows(&subject, &topic, &mut member, before..all).await?;
    let taken = begun.elapsed();
    ensure!(taken < limit, "it took {taken:?} to go on, where {limit:?} is the limit");
    ensure!(proxy.accepted() > accepted, "none of {live} connections was made again");
    // What was published twice, because its answer was lost, still comes.
    member.drain().await?;
    subject.settled("g").await?;
    drop(member);
    close_before(subject, proxy).await
}

/// Lets connections through again that were refused.
pub(super) async fn accept(proxy: &Proxy) -> Check {
    let accepted = proxy.accept().await;
    accepted.map_err(|cause| Failure::new(format!("the proxy is gone: {cause}")))
}

/// A broker behind a proxy closes while its proxy still lives.
pub(super) async fn close_before<B: Broker>(subject: Subject<B>, proxy: Proxy) -> Check {
    proxy.heal();
    subject.broker.close(SOON).await?;
    drop(proxy);
    Ok(())
}

async fn a_connection_that_is_cut_recovers_by_itself<B: Broker>(scene: Scene<B>) -> Check {
    ensure_recovers(scene, AFTER_CUT, Proxy::cut).await
}

async fn a_connection_that_is_cut_within_a_frame_recovers_by_itself<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let bytes = scene.variation().later(333, 517);
    ensure_recovers(scene, AFTER_CUT, |proxy| {
        proxy.set(Direction::ToServer, Mode::CutAfter { bytes }, Connections::Existing);
    })
    .await
}

async fn a_half_open_connection_recovers_by_itself<B: Broker>(scene: Scene<B>) -> Check {
    ensure_recovers(scene, AFTER_SILENCE, |proxy| {
        proxy.set(Direction::Both, Mode::Blackhole, Connections::Existing);
    })
    .await
}

async fn answers_that_get_lost_end_in_a_retry_and_no_loss<B: Broker>(scene: Scene<B>) -> Check {
    ensure_recovers(scene, AFTER_SILENCE, |proxy| {
        proxy.set(Direction::ToClient, Mode::Blackhole, Connections::Existing);
    })
    .await
}

async fn after_a_cut_an_event_runs_at_most_once_more_and_the_late_ack_is_refused<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let other = scene.process().await?;
    let bound = other.hooks.takeover()?;
    let (proxy, cut_off) = scene.process_behind_proxy().await?;
    let topic = other.topic("a")?;
    let mut one = cut_off.join("g", &topic).await?;
    let count = scene.variation().later(3, 90);
    other.publish(&keyed(&topic, "k", 0..count)?).await?;
    let held = one.next().await?;
    ensure_eq!(number(held.event())?, 0, "the first number");
    let (live, accepted) = (proxy.live(), proxy.accepted());
    ensure!(live > 0, "the broker has no connection through the proxy");
    proxy.refuse().await;
    proxy.cut();
    let begun = Instant::now();
    let mut two = other.join("g", &topic).await?;
    let again = two.next().await?;
    ensure_eq!(number(again.event())?, 0, "what the successor begins with");
    let taken = begun.elapsed();
    ensure!(taken < bound + SOON, "the takeover took {taken:?}, not {bound:?}");
    accept(&proxy).await?;
    // Only once the first member is back does its acknowledgement reach the server, which must not care.
    let back = || async {
        let is_up = cut_off.broker.health().await.status == HealthStatus::Up;
        Ok(is_up && other.info("g").await?.is_some_and(|info| info.members == 2))
    };
    eventually(2 * patience(), "the member that was cut off is back", back).await?;
    ensure!(proxy.accepted() > accepted, "none of {live} connections was made again");
    match tokio::time::timeout(patience(), held.ack()).await {
        Ok(Err(unsettled)) => {
            let error = &unsettled.error;
            ensure_eq!(error.kind(), ErrorKind::Fenced, "the kind of `{error}`");
        }
        Ok(Ok(())) => return Err(Failure::new("the late acknowledgement was accepted")),
        Err(_) => return Err(Failure::new("the late acknowledgement never ended")),
    }
    // It is still the successor's: given back, it comes again, and then goes on in order.
    drop(again);
    drop(one);
    two.expect(0..count).await?;
    two.nothing().await?;
    let empty = || async { Ok(other.info("g").await?.is_some_and(|info| info.lag == 0)) };
    eventually(patience(), "nothing waits", empty).await?;
    drop(two);
    close_before(cut_off, proxy).await
}
