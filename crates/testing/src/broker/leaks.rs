//! Short subscriptions leave nothing behind, in this process or on the server.

use tokio::runtime::Handle;
use trunkline_core::{Audience, Broker, OnFull, Pattern, PublishOptions, SubscribeOptions, Topic};

use super::{BrokerProperty, SOON, Subject, eventually, keyless, numbered, patience, promise};
use crate::failure::{Check, Failure, ensure};

/// On a server it is a property of faults: what the whole server holds tells only where nobody else uses it.
pub(super) fn in_process<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![promise!(short_subscriptions_leave_nothing_behind)]
}

async fn short_subscriptions_leave_nothing_behind<B: Broker>(subject: Subject<B>) -> Check {
    leave_nothing_behind(subject).await
}

/// Enough to notice what each leaves; fewer where each is a matter of the network, or of a rebalance.
fn how_many<B: Broker>(subject: &Subject<B>) -> u64 {
    match subject.expected.name {
        _ if subject.is_in_process() => 10_000,
        "kafka" => 50,
        _ => 1_000,
    }
}

/// A broadcast subscriber and a member come and go; every other pair leaves without a word.
async fn come_and_go<B: Broker>(subject: &Subject<B>, topic: &Topic, number: u64) -> Check {
    let broadcast = SubscribeOptions::broadcast([Pattern::from(topic.clone())]);
    // Where a buffer is the broker's, one that is left behind would be full soon.
    let here = subject.is_in_process();
    let broadcast = if here { broadcast.with_buffer(1, OnFull::Block) } else { broadcast };
    let mut listener = subject.subscribe(broadcast).await?;
    let member = subject.join("g", topic).await?;
    if number.is_multiple_of(100) {
        subject.publish_one(&numbered(topic, None, number)?).await?;
        listener.expect([number]).await?;
    }
    if number.is_multiple_of(2) {
        listener.leave().await?;
        member.leave().await?;
    }
    Ok(())
}

const THREADS: &str = "threads";

/// The threads of this process, those of a driver among them; 0 where the system does not tell.
fn threads() -> u64 {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count() as u64)
}

/// What is held by name: what the server holds for this broker, and the tasks of this property.
async fn held<B: Broker>(subject: &Subject<B>) -> Result<Vec<(String, u64)>, Failure> {
    let tasks = Handle::current().metrics().num_alive_tasks() as u64;
    let mut held = vec![("tasks".to_owned(), tasks), (THREADS.to_owned(), threads())];
    if !subject.is_in_process() {
        held.extend(subject.hooks.census().await?);
    }
    Ok(held)
}

pub(crate) async fn leave_nothing_behind<B: Broker>(subject: Subject<B>) -> Check {
    let count = how_many(&subject);
    let topic = subject.topic("a")?;
    come_and_go(&subject, &topic, 0).await?;
    // The group, the connections and whatever else stays are there by now.
    ensure_no_member(&subject).await?;
    let before = held(&subject).await?;
    ensure_noticed(&subject, &topic, &before).await?;
    for number in 1..count {
        come_and_go(&subject, &topic, number).await?;
    }
    ensure_no_member(&subject).await?;
    // Properties beside this one have threads too; that each of two subscriptions leaves one behind is
    // noticed all the same.
    let spare = |name: &str| if name == THREADS { count } else { 0 };
    let no_more = || async {
        let after = held(&subject).await?;
        Ok(!after.iter().any(|found| is_more(found, &before, spare(&found.0))))
    };
    let gone = eventually(patience(), "no more is held than before", no_more).await;
    if let Err(failure) = gone {
        let after = held(&subject).await?;
        let message = format!("{failure}: {before:?} before, {after:?} after {count} of them");
        return Err(Failure::new(message));
    }
    let only = PublishOptions::default().with_audience(Audience::BroadcastOnly);
    subject.publish_with(&keyless(&topic, 0..10)?, &only.with_timeout(SOON)).await?;
    let mut member = subject.join("g", &topic).await?;
    member.expect_all((0..count).step_by(100)).await?;
    member.nothing().await
}

/// A count that does not tell of a live subscription would not tell of one that is left behind.
async fn ensure_noticed<B: Broker>(
    subject: &Subject<B>,
    topic: &Topic,
    before: &[(String, u64)],
) -> Check {
    let (listener, member) = (subject.listen(topic).await?, subject.join("g", topic).await?);
    let counted = if subject.is_in_process() { Vec::new() } else { subject.hooks.census().await? };
    listener.leave().await?;
    member.leave().await?;
    let is_noticed = counted.is_empty() || counted.iter().any(|found| is_more(found, before, 0));
    ensure!(is_noticed, "the census does not notice a subscriber: {before:?}, then {counted:?}");
    ensure_no_member(subject).await
}

/// Whether there is more of it than there was, by more than `spare`.
fn is_more((name, count): &(String, u64), before: &[(String, u64)], spare: u64) -> bool {
    let known = before.iter().find(|(known, _)| known == name);
    *count > known.map_or(0, |(_, count)| *count) + spare
}

async fn ensure_no_member<B: Broker>(subject: &Subject<B>) -> Check {
    let none = || async { Ok(subject.info("g").await?.is_some_and(|info| info.members == 0)) };
    eventually(patience(), "the group has no member", none).await
}
