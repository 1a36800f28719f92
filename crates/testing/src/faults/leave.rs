//! Members as processes that join and leave under load, cleanly or not.

use std::time::Duration;

use futures_util::future::try_join;
use trunkline_core::Broker;

use super::ledger::Ledger;
use super::load::Flow;
use super::property::on_everybodys_server;
use super::{FaultProperty, Scene};
use crate::broker::{SOON, Subject};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::member::{Line, MemberProcess, Orders, Report, Reports};

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![
        on_everybodys_server!(
            members_that_join_and_leave_cleanly_under_load_lose_double_and_overlap_nothing
        ),
        on_everybodys_server!(members_that_are_killed_and_stopped_under_load_lose_nothing),
    ]
}

/// How long a member may take to join, with the process that it is.
pub(super) const JOINS: Duration = Duration::from_secs(30);

/// Starts a member and waits until it has joined; what others print meanwhile is noted.
pub(super) async fn joined(
    reports: &mut Reports,
    ledger: &mut Ledger,
    orders: &Orders,
) -> Result<MemberProcess, Failure> {
    let member = reports.start(orders)?;
    let number = member.number();
    let is_ready = |report: &Report| report.member == number && report.line == Line::Ready;
    let seen = reports.until(JOINS, "a member has joined", is_ready).await?;
    seen.iter().for_each(|report| ledger.note(report));
    Ok(member)
}

/// Asks a member to leave and waits until it has.
pub(super) async fn leaves(
    reports: &mut Reports,
    ledger: &mut Ledger,
    member: MemberProcess,
) -> Check {
    member.terminate().await?;
    let number = member.number();
    let has_left = |report: &Report| report.member == number && report.line == Line::Left;
    let seen = reports.until(2 * SOON, "a member has left", has_left).await?;
    seen.iter().for_each(|report| ledger.note(report));
    member.ended().await
}

const FLOW: Flow = Flow { keys: 60, count: 6_000, per_second: 600 };

async fn members_that_join_and_leave_cleanly_under_load_lose_double_and_overlap_nothing<
    B: Broker,
>(
    scene: Scene<B>,
) -> Check {
    let subject = scene.process().await?;
    let topic = subject.topic("a")?;
    // Long enough for every partition to have something in a handler when it moves.
    let orders = Orders { handle_ms: 12, ..scene.orders(&subject, "g", &topic)? };
    let (mut reports, mut ledger) = (Reports::new(), Ledger::of_keys(FLOW.keys));
    let first = joined(&mut reports, &mut ledger, &orders).await?;
    let second = joined(&mut reports, &mut ledger, &orders).await?;
    let later = |count| scene.variation().later(count, 331);
    let coming_and_going = async {
        ledger.until_handled(&mut reports, later(FLOW.count / 8), JOINS).await?;
        let third = joined(&mut reports, &mut ledger, &orders).await?;
        ledger.until_handled(&mut reports, later(FLOW.count * 3 / 8), JOINS).await?;
        leaves(&mut reports, &mut ledger, first).await?;
        ledger.until_handled(&mut reports, later(FLOW.count * 5 / 8), JOINS).await?;
        leaves(&mut reports, &mut ledger, second).await?;
        let fourth = joined(&mut reports, &mut ledger, &orders).await?;
        ledger.until_handled(&mut reports, FLOW.count, 3 * JOINS).await?;
        Ok((third, fourth))
    };
    let ((), (third, fourth)) = try_join(FLOW.publish(&subject, &topic), coming_and_going).await?;
    subject.settled("g").await?;
    leaves(&mut reports, &mut ledger, third).await?;
    leaves(&mut reports, &mut ledger, fourth).await?;
    ensure_eq!(ledger.duplicates(), 0, "the duplicates");
    ledger.ensure_no_overlap()?;
    ledger.ensure_order()?;
    ensure_nothing_left(&subject).await
}

/// How many events of one interrupted member may be handled again: those that it held, and those whose
/// acknowledgements were still on their way, had the whole flow been its own.
fn most_again(orders: &Orders, ack_interval: Duration) -> u64 {
    let micros = u64::try_from(ack_interval.as_micros()).unwrap_or(u64::MAX);
    orders.prefetch as u64 + (FLOW.per_second * micros).div_ceil(1_000_000)
}

/// Nothing is left for a further member, and nothing was given up.
async fn ensure_nothing_left<B: Broker>(subject: &Subject<B>) -> Check {
    let mut last = subject.join("g", &subject.topic("a")?).await?;
    last.nothing().await?;
    last.leave().await?;
    ensure!(subject.letters("g").await?.is_empty(), "something became a dead letter");
    Ok(())
}

async fn members_that_are_killed_and_stopped_under_load_lose_nothing<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let subject = scene.process().await?;
    let takeover = subject.hooks.takeover()?;
    let topic = subject.topic("a")?;
    let orders = scene.orders(&subject, "g", &topic)?;
    let (mut reports, mut ledger) = (Reports::new(), Ledger::of_keys(FLOW.keys));
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(joined(&mut reports, &mut ledger, &orders).await?);
    }
    let rounds = scene.variation().rounds();
    let flow = Flow { count: rounds * FLOW.count, ..FLOW };
    let dying = async {
        let limit = 2 * JOINS + 2 * takeover;
        for round in 0..rounds {
            let before = round * FLOW.count;
            ledger.until_handled(&mut reports, before + FLOW.count / 8, limit).await?;
            members.remove(0).kill().await?;
            ledger.until_handled(&mut reports, before + FLOW.count * 3 / 8, limit).await?;
            members.push(joined(&mut reports, &mut ledger, &orders).await?);
            let stopped = &members[0];
            stopped.stop().await?;
            // Longer than anybody waits for it.
            tokio::time::sleep(takeover + Duration::from_secs(1)).await;
            stopped.go_on().await?;
        }
        ledger.until_handled(&mut reports, flow.count, 2 * limit).await
    };
    try_join(flow.publish(&subject, &topic), dying).await?;
    subject.settled("g").await?;
    ledger.ensure_order()?;
    let most = 2 * rounds * most_again(&orders, subject.hooks.ack_interval()?);
    let duplicates = ledger.duplicates();
    ensure!(duplicates <= most, "{duplicates} duplicates, where {most} may be");
    for member in members {
        leaves(&mut reports, &mut ledger, member).await?;
    }
    ensure_nothing_left(&subject).await
}
