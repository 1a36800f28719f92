//! The partitions of a group are shared evenly among its members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, Event, Topic};

use super::leave::{JOINS, leaves};
use super::ledger::Ledger;
use super::property::on_everybodys_server;
use super::{FaultProperty, Scene};
use crate::broker::{Subject, numbered, patience};
use crate::failure::{Check, Failure, ensure, ensure_eq};
use crate::member::{Line, MemberProcess, Orders, Report, Reports, Role};

pub(super) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    vec![on_everybodys_server!(members_share_the_partitions_evenly_within_five_seconds)]
}

/// How soon after a member asked to join or was told to go.
const SHARED: Duration = Duration::from_secs(5);

/// A group that tells, round by round, which member has which partition.
struct Group<'a, B> {
    subject: &'a Subject<B>,
    topic: Topic,
    /// One for each partition, by its number.
    keys: Vec<String>,
    reports: Reports,
    rounds: u64,
}

impl<B: Broker> Group<'_, B> {
    /// Publishes an event into each partition and notes who gets it.
    async fn round(&mut self) -> Result<BTreeMap<usize, BTreeSet<u64>>, Failure> {
        let count = self.keys.len() as u64;
        let numbers = self.rounds * count..(self.rounds + 1) * count;
        self.rounds += 1;
        let numbered = |(number, key)| numbered(&self.topic, Some(key), number);
        let keys = self.keys.iter().map(String::as_str);
        let events = numbers.clone().zip(keys).map(numbered);
        self.subject.publish(&events.collect::<Result<Vec<Event>, _>>()?).await?;
        let (mut shares, mut missing) =
            (BTreeMap::<usize, BTreeSet<u64>>::new(), numbers.clone().collect::<BTreeSet<u64>>());
        let all = |report: &Report| {
            if let Line::Run { starts: true, number, .. } = &report.line
                && missing.remove(number)
            {
                shares.entry(report.member).or_default().insert(number % count);
            }
            missing.is_empty()
        };
        self.reports.until(patience(), "an event of each partition has come", all).await?;
        Ok(shares)
    }

    /// Starts a member and waits until it has joined; answers when it asked to, as the start of a process
    /// takes as long as the machine likes.
    async fn joins(&mut self, orders: &Orders) -> Result<(MemberProcess, Instant), Failure> {
        let member = self.reports.start(orders)?;
        let number = member.number();
        let mut asked = Instant::now();
        for line in [Line::Joining, Line::Ready] {
            let is_there = |report: &Report| report.member == number && report.line == line;
            self.reports.until(JOINS, "a member has joined", is_there).await?;
            if line == Line::Joining {
                asked = Instant::now();
            }
        }
        Ok((member, asked))
    }

    /// Fails unless just these members have a part, none of them more than one partition more than
    /// another, in time after `changed`.
    async fn until_even(&mut self, members: &[usize], changed: Instant) -> Check {
        loop {
            let shares = self.round().await?;
            let took = changed.elapsed();
            ensure!(took <= SHARED, "after {took:?} the partitions of the members are {shares:?}");
            let counts = members.iter().map(|member| shares.get(member).map_or(0, BTreeSet::len));
            let (least, most) = (counts.clone().min(), counts.clone().max());
            if counts.sum::<usize>() == self.keys.len() && most <= least.map(|least| least + 1) {
                return Ok(());
            }
        }
    }
}

/// A key for each partition.
fn key_of_each<B: Broker>(subject: &Subject<B>) -> Result<Vec<String>, Failure> {
    let (count, of_key) = subject.hooks.partitions()?;
    (0..*count)
        .map(|partition| {
            let mut keys = (0..10_000).map(|number| format!("key-{number}"));
            let found = keys.find(|key| of_key(key) == partition);
            found.ok_or_else(|| Failure::new(format!("no key falls into partition {partition}")))
        })
        .collect()
}

async fn members_share_the_partitions_evenly_within_five_seconds<B: Broker>(
    scene: Scene<B>,
) -> Check {
    let subject = scene.process().await?;
    let topic = subject.topic("a")?;
    let orders =
        Orders { role: Role::Subscription, handle_ms: 0, ..scene.orders(&subject, "g", &topic)? };
    let keys = key_of_each(&subject)?;
    let mut group = Group { subject: &subject, topic, keys, reports: Reports::new(), rounds: 0 };
    let mut unused = Ledger::of_keys(1);
    let mut members = Vec::new();
    // From one member to three, and from three to two.
    for count in 1..=3 {
        let (member, asked) = group.joins(&orders).await?;
        members.push(member);
        let here: Vec<usize> = (0..count).collect();
        group.until_even(&here, asked).await?;
    }
    let told = Instant::now();
    leaves(&mut group.reports, &mut unused, members.remove(0)).await?;
    group.until_even(&[1, 2], told).await?;
    // It stays so: nothing is handed about any more.
    let (shares, again) = (group.round().await?, group.round().await?);
    ensure_eq!(shares, again, "who has what, one round after the other");
    for member in members {
        leaves(&mut group.reports, &mut unused, member).await?;
    }
    Ok(())
}
