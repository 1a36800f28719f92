//! Members as processes that die or stand still with events in their hands.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, Topic};

use super::leave::{JOINS, joined};
use super::ledger::Ledger;
use super::property::on_everybodys_server;
use super::{FaultProperty, Scene};
use crate::broker::{Crew, Need, SOON, Subject, Taker, ack, keyed, number, patience, spread};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::member::{Line, Orders, Report, Reports, Role};

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_everybodys_server!(what_a_killed_member_had_comes_again_within_the_bound_and_no_more),
        on_everybodys_server!(what_a_killed_member_had_comes_before_what_is_new),
        on_everybodys_server!(a_delayed_retry_survives_the_kill_of_its_member)
            .needs(&[Need::Delay]),
        on_everybodys_server!(a_member_that_stood_still_takes_nothing_and_its_late_acks_are_refused),
        on_everybodys_server!(while_a_handler_runs_its_event_goes_to_nobody_else),
    ]
}

/// How long an acknowledgement may take from its settlement to the server's memory of it.
const ACKS_LAND: Duration = Duration::from_secs(1);

/// Beside the bound of the takeover: to hand the events out, and for what else the machine does.
const SLACK: Duration = Duration::from_secs(3);

/// Orders for a bare subscription that acknowledges the numbers below `hold_from` and keeps the others.
fn holding<B: Broker>(
    scene: &Scene<B>,
    subject: &Subject<B>,
    topic: &Topic,
    hold_from: u64,
) -> Result<Orders, Failure> {
    let orders = scene.orders(subject, "g", topic)?;
    Ok(Orders { role: Role::Subscription, hold_from: Some(hold_from), handle_ms: 0, ..orders })
}

/// Waits until a member has settled `settled` events and holds `held` others.
async fn until_holding(reports: &mut Reports, settled: usize, held: usize, from: u64) -> Check {
    let (mut done, mut holds) = (0, 0);
    let enough = |report: &Report| {
        match &report.line {
            Line::Settled { .. } => done += 1,
            Line::Run { starts: true, number, .. } if *number >= from => holds += 1,
            _ => {}
        }
        done >= settled && holds >= held
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

async fn what_a_killed_member_had_comes_again_within_the_bound_and_no_more<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let mut reports = Reports::new();
    let orders = holding(&scene, &subject, &topic, 40)?;
    let member = joined(&mut reports, &mut Ledger::of_keys(20), &orders).await?;
    subject.publish(&spread(&topic, 20, 0..60)?).await?;
    until_holding(&mut reports, 40, 20, 40).await?;
    // No condition tells when acknowledgements that were answered have landed everywhere.
    tokio::time::sleep(ACKS_LAND).await;
    member.kill().await?;
    let killed = Instant::now();
    let mut survivor = subject.join("g", &topic).await?;
    let mut found = take_numbers(&mut survivor, 20, killed, bound + SLACK).await?;
    found.sort_unstable();
    ensure_eq!(found, (40..60).collect::<Vec<u64>>(), "what came again");
    survivor.nothing().await?;
    subject.settled("g").await
}

async fn what_a_killed_member_had_comes_before_what_is_new<B: Broker>(scene: Scene<B>) -> Check {
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let mut reports = Reports::new();
    let orders = Orders { prefetch: 4, ..holding(&scene, &subject, &topic, 0)? };
    let member = joined(&mut reports, &mut Ledger::of_keys(1), &orders).await?;
    subject.publish(&keyed(&topic, "k", 0..20)?).await?;
    until_holding(&mut reports, 0, 1, 0).await?;
    member.kill().await?;
    let killed = Instant::now();
    subject.publish(&keyed(&topic, "k", 20..30)?).await?;
    let mut survivor = subject.join("g", &topic).await?;
    let found = take_numbers(&mut survivor, 30, killed, bound + SLACK).await?;
    ensure_eq!(found, (0..30).collect::<Vec<u64>>(), "the order after the takeover");
    survivor.nothing().await
}

async fn a_delayed_retry_survives_the_kill_of_its_member<B: Broker>(scene: Scene<B>) -> Check {
    const DELAY: Duration = Duration::from_secs(2);
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let mut reports = Reports::new();
    let orders = Orders {
        role: Role::Subscription,
        fails_first: true,
        retry_ms: 2_000,
        handle_ms: 0,
        ..scene.orders(&subject, "g", &topic)?
    };
    let member = joined(&mut reports, &mut Ledger::of_keys(10), &orders).await?;
    subject.publish(&spread(&topic, 10, 0..10)?).await?;
    until_holding(&mut reports, 10, 0, u64::MAX).await?;
    let retried = Instant::now();
    member.kill().await?;
    let mut survivor = subject.join("g", &topic).await?;
    let mut numbers = BTreeSet::new();
    for _ in 0..10 {
        let left = (DELAY + bound + SLACK).saturating_sub(retried.elapsed());
        let next = tokio::time::timeout(left, survivor.next()).await;
        let late = |_| Failure::new(format!("after {:?} it has not come", DELAY + bound + SLACK));
        let delivery = next.map_err(late)??;
        ensure_eq!(delivery.attempts(), 1, "the attempts written to it");
        ensure!(numbers.insert(number(delivery.event())?), "a number came twice");
        ack(delivery).await?;
    }
    survivor.nothing().await
}

async fn a_member_that_stood_still_takes_nothing_and_its_late_acks_are_refused<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    subject.declare("g", &topic).await?;
    let mut reports = Reports::new();
    // Each handler takes longer than it takes to stop the process.
    let orders = Orders {
        role: Role::Subscription,
        handle_ms: 2_000,
        prefetch: 10,
        ..scene.orders(&subject, "g", &topic)?
    };
    let sleeper = joined(&mut reports, &mut Ledger::of_keys(10), &orders).await?;
    subject.publish(&spread(&topic, 10, 0..10)?).await?;
    let mut held = 0;
    let all = |report: &Report| {
        held += usize::from(matches!(report.line, Line::Run { starts: true, .. }));
        held == 10
    };
    reports.until(patience(), "the member holds ten events", all).await?;
    sleeper.stop().await?;
    let mut successor = subject.join("g", &topic).await?;
    let mut found = successor.take(10).await?;
    // The successor still holds two of them when the other wakes.
    let mut done = found.split_off(2);
    while let Some(delivery) = done.pop() {
        ack(delivery).await?;
    }
    sleeper.go_on().await?;
    let late = JOINS.min(bound + 2 * SOON);
    let mut refused = 0;
    let settled = |report: &Report| {
        if let Line::Settled { outcome, .. } = &report.line {
            refused += usize::from(outcome != "ok");
            return outcome == "ok" || refused == 10;
        }
        false
    };
    reports.until(late, "ten late acknowledgements are refused", settled).await?;
    ensure_eq!(refused, 10, "how many late acknowledgements were refused");
    // What the successor holds is still its own: given back, it comes to a member again.
    sleeper.kill().await?;
    let held: BTreeSet<u64> =
        found.iter().map(|delivery| number(delivery.event())).collect::<Result<_, _>>()?;
    let given_back = Instant::now();
    drop(found);
    let again = take_numbers(&mut successor, 2, given_back, bound + SLACK).await?;
    let again: BTreeSet<u64> = again.into_iter().collect();
    ensure_eq!(again, held, "what came again");
    successor.nothing().await
}

async fn while_a_handler_runs_its_event_goes_to_nobody_else<B: Broker>(scene: Scene<B>) -> Check {
    const KEYS: usize = 40;
    let subject = scene.process().await?;
    let bound = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    let mut reports = Reports::new();
    let mut others = Crew::new([subject.join("g", &topic).await?]);
    let orders = holding(&scene, &subject, &topic, 0)?;
    let busy = joined(&mut reports, &mut Ledger::of_keys(1), &orders).await?;
    subject.publish(&spread(&topic, KEYS as u64, 0..KEYS as u64)?).await?;
    let (mut held, mut taken) = (BTreeSet::new(), BTreeSet::new());
    while held.len() + taken.len() < KEYS {
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
