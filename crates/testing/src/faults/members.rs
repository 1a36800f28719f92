//! Members as processes that die or stand still with events in their hands.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, Event, Topic};

use super::leave::joined;
use super::ledger::Ledger;
use super::property::on_everybodys_server;
use super::{FaultProperty, Scene};
use crate::broker::{
    Crew, Need, SOON, Subject, Taker, ack, eventually, keyed, number, patience, spread,
};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::member::{Line, Orders, Report, Reports, Role};

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_everybodys_server!(what_a_killed_member_had_comes_again_within_the_bound_and_no_more),
        on_everybodys_server!(what_a_killed_member_had_comes_before_what_is_new),
        on_everybodys_server!(a_delayed_retry_survives_the_kill_of_its_member)
            .needs(&[Need::Delay]),
        on_everybodys_server!(
            a_member_that_stood_still_takes_nothing_and_its_late_acks_change_nothing
        ),
        on_everybodys_server!(while_a_handler_runs_its_event_goes_to_nobody_else),
    ]
}

/// How long nothing may have been heard of a member until all that it could do is done: take what is
/// there, and acknowledge late, which changes nothing that could be waited for.
const ALL_IS_DONE: Duration = Duration::from_secs(2);

/// Beside the bound of the takeover: to hand the events out, and for what else the machine does.
const SLACK: Duration = SOON;

/// Orders for a bare subscription that keeps these numbers and acknowledges the others.
fn holding<B: Broker>(
    scene: &Scene<B>,
    subject: &Subject<B>,
    topic: &Topic,
    holds: Range<u64>,
) -> Result<Orders, Failure> {
    let orders = scene.orders(subject, "g", topic)?;
    Ok(Orders { role: Role::Subscription, holds, handle_ms: 0, ..orders })
}

/// Waits until a member has settled `settled` events and holds `held` of these numbers.
async fn until_holding(
    reports: &mut Reports,
    settled: usize,
    held: usize,
    holds: Range<u64>,
) -> Check {
    let (mut done, mut begun) = (0, 0);
    let enough = |report: &Report| {
        match &report.line {
            Line::Settled { .. } => done += 1,
            Line::Run { starts: true, number, .. } if holds.contains(number) => begun += 1,
            _ => {}
        }
        done >= settled && begun >= held
    };
    reports.until(patience(), "the member holds what it is to hold", enough).await.map(drop)
}

/// Takes `count` different events within `limit`; each is acknowledged.
async fn take_numbers(
    taker: &mut Taker,
    count: usize,
    begun: Instant,
    limit: Duration,
) -> Result<Vec<u64>, Failure> {
    let mut found = Vec::new();
    while found.len() < count {
        let left = limit.saturating_sub(begun.elapsed());
        let Ok(next) = tokio::time::timeout(left, taker.next()).await else {
            let missing = count - found.len();
            return Err(Failure::new(format!("{missing} of {count} did not come in {limit:?}")));
        };
        let delivery = next?;
        let number = number(delivery.event())?;
        ensure!(!found.contains(&number), "number {number} came twice");
        found.push(number);
        ack(delivery).await?;
    }
    Ok(found)
}

/// Waits until the server knows of no more than `held` events that are not acknowledged, and as long as
/// acknowledgements may be on their way where it does not tell what another process has.
async fn until_acks_land<B: Broker>(subject: &Subject<B>, held: u64) -> Check {
    let landed = || async {
        let info = subject.info("g").await?;
        Ok(info.is_some_and(|info| info.lag + info.in_flight <= held))
    };
    eventually(patience(), "the acknowledgements have landed", landed).await?;
    tokio::time::sleep(subject.hooks.ack_interval()?).await;
    Ok(())
}

async fn what_a_killed_member_had_comes_again_within_the_bound_and_no_more<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let mut reports = Reports::new();
    // The first ones, so that what was acknowledged lies behind what was not.
    let holds = scene.variation().later(20, 15);
    let orders = holding(&scene, &subject, &topic, 0..holds)?;
    let member = joined(&mut reports, &mut Ledger::of_keys(60), &orders).await?;
    subject.publish(&spread(&topic, 60, 0..60)?).await?;
    let held = usize::try_from(holds).unwrap_or_default();
    until_holding(&mut reports, 60 - held, held, 0..holds).await?;
    until_acks_land(&subject, holds).await?;
    member.kill().await?;
    let killed = Instant::now();
    let mut survivor = subject.join("g", &topic).await?;
    let mut found = take_numbers(&mut survivor, held, killed, bound + SLACK).await?;
    found.sort_unstable();
    ensure_eq!(found, (0..holds).collect::<Vec<u64>>(), "what came again");
    survivor.nothing().await?;
    subject.settled("g").await
}

async fn what_a_killed_member_had_comes_before_what_is_new<B: Broker>(scene: Scene<B>) -> Check {
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let mut reports = Reports::new();
    let prefetch = if scene.variation().rounds() == 1 { 4 } else { 1 };
    let orders = Orders { prefetch, ..holding(&scene, &subject, &topic, 0..u64::MAX)? };
    let member = joined(&mut reports, &mut Ledger::of_keys(1), &orders).await?;
    subject.publish(&keyed(&topic, "k", 0..20)?).await?;
    until_holding(&mut reports, 0, 1, 0..20).await?;
    member.kill().await?;
    let killed = Instant::now();
    subject.publish(&keyed(&topic, "k", 20..30)?).await?;
    let mut survivor = subject.join("g", &topic).await?;
    let found = take_numbers(&mut survivor, 30, killed, bound + SLACK).await?;
    ensure_eq!(found, (0..30).collect::<Vec<u64>>(), "the order after the takeover");
    survivor.nothing().await
}

async fn a_delayed_retry_survives_the_kill_of_its_member<B: Broker>(scene: Scene<B>) -> Check {
    let retry_ms = scene.variation().later(2_000, 1_500);
    let delay = Duration::from_millis(retry_ms);
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let mut reports = Reports::new();
    let orders = Orders {
        role: Role::Subscription,
        fails_first: true,
        retry_ms,
        handle_ms: 0,
        ..scene.orders(&subject, "g", &topic)?
    };
    let member = joined(&mut reports, &mut Ledger::of_keys(10), &orders).await?;
    // None was asked for again before it was published.
    let published = Instant::now();
    subject.publish(&spread(&topic, 10, 0..10)?).await?;
    until_holding(&mut reports, 10, 0, 0..0).await?;
    let retried = Instant::now();
    member.kill().await?;
    let mut survivor = subject.join("g", &topic).await?;
    let mut numbers = BTreeSet::new();
    for _ in 0..10 {
        let left = (delay + bound + SLACK).saturating_sub(retried.elapsed());
        let next = tokio::time::timeout(left, survivor.next()).await;
        let late = |_| Failure::new(format!("after {:?} it has not come", delay + bound + SLACK));
        let delivery = next.map_err(late)??;
        let waited = published.elapsed();
        ensure!(waited >= delay, "it came after {waited:?}, which is earlier than {delay:?}");
        ensure_eq!(delivery.attempts(), 1, "the attempts written to it");
        ensure!(numbers.insert(number(delivery.event())?), "a number came twice");
        ack(delivery).await?;
    }
    survivor.nothing().await
}

async fn a_member_that_stood_still_takes_nothing_and_its_late_acks_change_nothing<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let mut reports = Reports::new();
    let orders = Orders { prefetch: 10, ..holding(&scene, &subject, &topic, 0..10)? };
    let sleeper = joined(&mut reports, &mut Ledger::of_keys(10), &orders).await?;
    subject.publish(&spread(&topic, 10, 0..10)?).await?;
    until_holding(&mut reports, 0, 10, 0..10).await?;
    sleeper.stop().await?;
    // Its hands are full with what it holds, so that most of what is new lies there to be taken.
    let options = subject.member_of("g", &topic)?.with_prefetch(10);
    let mut successor = subject.subscribe(options).await?;
    // It holds the events of some keys and has finished the others when the sleeper wakes.
    let mut held = successor.take(10).await?;
    let holds = if scene.variation().rounds() == 1 { 2 } else { 5 };
    for delivery in held.split_off(holds) {
        ack(delivery).await?;
    }
    let keys: Vec<String> = held.iter().filter_map(|delivery| key_of(delivery.event())).collect();
    subject.publish(&spread(&topic, 10, 10..130)?).await?;
    // Its handlers end as it wakes, and it has both hands free for whatever it takes to be its own.
    sleeper.let_go().await?;
    sleeper.go_on().await?;
    subject.publish(&spread(&topic, 10, 130..150)?).await?;
    // Once it is a member again it may have its share of what is new.
    let mut shared = ensure_no_harm(&mut reports, patience() + bound, &keys).await?;
    // What it answered for has to have every chance to reach the server.
    until_all_is_done(&mut reports, &mut shared, &keys).await?;
    sleeper.kill().await?;
    // What the successor holds is still its own: the next member gets it when it goes.
    let mut missing: BTreeSet<u64> =
        held.iter().map(|delivery| number(delivery.event())).collect::<Result<_, _>>()?;
    drop(held);
    missing.extend((10..150).filter(|number| !shared.contains(number)));
    successor.leave().await?;
    let mut last = subject.join("g", &topic).await?;
    while !missing.is_empty() {
        let event = last
            .event()
            .await
            .map_err(|failure| Failure::new(format!("{missing:?} are missing: {failure}")))?;
        missing.remove(&number(&event)?);
    }
    last.drain().await?;
    subject.settled("g").await
}

fn key_of(event: &Event) -> Option<String> {
    event.attributes().key().map(str::to_owned)
}

/// A member that wakes answers for the ten events that it had, and begins nothing of the keys that its
/// successor holds.
async fn ensure_no_harm(
    reports: &mut Reports,
    limit: Duration,
    keys: &[String],
) -> Result<BTreeSet<u64>, Failure> {
    let (mut answered, mut fault) = (0, None);
    let is_over = |report: &Report| {
        match &report.line {
            Line::Settled { number, .. } if *number < 10 => answered += 1,
            line => fault = fault.take().or_else(|| begun_of(keys, line)),
        }
        answered == 10
    };
    let seen = reports.until(limit, "ten late acknowledgements are answered", is_over).await?;
    match fault {
        Some(fault) => Err(Failure::new(fault)),
        None => Ok(seen.iter().filter_map(settled_well).collect()),
    }
}

/// Says that a line begins an event of keys that another member holds.
fn begun_of(keys: &[String], line: &Line) -> Option<String> {
    match line {
        Line::Run { starts: true, key, number, .. } if keys.contains(key) => {
            Some(format!("number {number} of {key} was begun while another holds it"))
        }
        _ => None,
    }
}

/// Notes what a member settles until it does no more; it still begins nothing of the keys that its
/// successor holds.
async fn until_all_is_done(
    reports: &mut Reports,
    settled: &mut BTreeSet<u64>,
    keys: &[String],
) -> Check {
    while let Some(report) = reports.next_within(ALL_IS_DONE).await? {
        if let Some(fault) = begun_of(keys, &report.line) {
            return Err(Failure::new(fault));
        }
        settled.extend(settled_well(&report));
    }
    Ok(())
}

/// The number of an acknowledgement that was accepted.
fn settled_well(report: &Report) -> Option<u64> {
    match &report.line {
        Line::Settled { number, outcome } if outcome == "ok" => Some(*number),
        _ => None,
    }
}

/// Which of these numbers the member in another process holds; the others are with somebody else.
async fn held_by_one(
    reports: &mut Reports,
    others: &mut Crew,
    numbers: Range<u64>,
) -> Result<BTreeSet<u64>, Failure> {
    let (mut held, mut taken) = (BTreeSet::new(), BTreeSet::new());
    while ((held.len() + taken.len()) as u64) < numbers.end - numbers.start {
        tokio::select! {
            report = reports.next_within(patience()) => {
                let late = || Failure::new("some events came to no member");
                if let Line::Run { number, .. } = report?.ok_or_else(late)?.line {
                    held.insert(number);
                }
            }
            got = others.next() => {
                taken.insert(number(&got?.1)?);
            }
        }
    }
    Ok(held)
}

async fn while_a_handler_runs_its_event_goes_to_nobody_else<B: Broker>(scene: Scene<B>) -> Check {
    // Never more than the prefetch of one member, which holds all that it gets.
    let keys = scene.variation().later(40, 10);
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    let mut reports = Reports::new();
    let mut others = Crew::new([subject.join("g", &topic).await?]);
    let orders = holding(&scene, &subject, &topic, 0..u64::MAX)?;
    let busy = joined(&mut reports, &mut Ledger::of_keys(1), &orders).await?;
    let mut held = BTreeSet::new();
    let deadline = Instant::now() + patience();
    // Until the two share, which takes a moment, all may go to the one who was there first.
    for round in 0.. {
        ensure!(Instant::now() < deadline, "the member that joined gets nothing");
        let numbers = round * keys..(round + 1) * keys;
        subject.publish(&spread(&topic, keys, numbers.clone())?).await?;
        held = held_by_one(&mut reports, &mut others, numbers).await?;
        if !held.is_empty() {
            break;
        }
    }
    // Twice as long as anybody would wait for a member that is gone.
    others.nothing_for(2 * bound).await?;
    let killed = Instant::now();
    busy.kill().await?;
    for (_, event) in others.take(held.len()).await? {
        ensure!(held.remove(&number(&event)?), "number {} came again", number(&event)?);
    }
    let taken_over = killed.elapsed();
    ensure!(taken_over < bound + SLACK, "the takeover took {taken_over:?}, not {bound:?}");
    others.nothing().await
}
