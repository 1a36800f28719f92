//! Members of a group at random, against what must always be true.

use std::collections::BTreeMap;
use std::time::Duration;

use trunkline_core::{
    Broker, BrokerAdmin, Delivery, ErrorKind, Group, GroupSpec, Pattern, PublishOptions,
};
use trunkline_memory::MemoryBroker;

use crate::member::Member;
use crate::{event, group, id};

/// A small generator, so that a failing run can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Members of one group, what was published to it, and what was acknowledged.
struct World {
    broker: MemoryBroker,
    random: Random,
    members: Vec<Member>,
    published: usize,
    keys: BTreeMap<String, Key>,
    acknowledged: Vec<usize>,
    capacity: usize,
}

#[derive(Default)]
struct Key {
    published: Vec<usize>,
    /// How many of them were handed out at least once.
    begun: usize,
}

fn number_of(delivery: &Delivery) -> usize {
    id(delivery).parse().unwrap()
}

fn key_of(delivery: &Delivery) -> String {
    delivery.event().attributes().key().unwrap().to_owned()
}

impl Key {
    fn begin(&mut self, number: usize) {
        let at = self.published.binary_search(&number).unwrap();
        assert!(at <= self.begun, "{number} came before an earlier event of its key");
        self.begun = self.begun.max(at + 1);
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let capacity = 1 + random.below(40);
        let broker = MemoryBroker::default();
        let mut spec = GroupSpec::new(Group::new("billing").unwrap(), [Pattern::all()]);
        spec.buffer = Some(capacity);
        broker.declare_group(spec).await.unwrap();
        let (members, keys, acknowledged) = Default::default();
        Self { broker, random, members, published: 0, keys, acknowledged, capacity }
    }

    async fn step(&mut self) {
        match self.random.below(12) {
            0..4 => self.publish().await,
            4..6 => self.poll(),
            6..9 => self.settle().await,
            9 if self.members.len() < 4 => {
                let prefetch = 1 + self.random.below(12);
                let member = Member::new(&self.broker, group().with_prefetch(prefetch)).await;
                self.members.push(member);
            }
            10 if !self.members.is_empty() => {
                let at = self.random.below(self.members.len() * 4);
                self.members.truncate(at.max(1));
            }
            _ => drop(self.broker.health().await),
        }
    }

    async fn publish(&mut self) {
        let key = format!("k{}", self.random.below(6));
        let next = [event(self.published, &key)];
        let now = PublishOptions::default().with_timeout(Duration::ZERO);
        match self.broker.publish(&next, &now).await.into_result() {
            Ok(()) => {
                self.keys.entry(key).or_default().published.push(self.published);
                self.published += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Full),
        }
    }

    fn poll(&mut self) {
        let count = self.members.len();
        if count > 0 {
            let at = self.random.below(count);
            let (member, max) = (&mut self.members[at], 1 + self.random.below(4));
            let before = member.out.len();
            drop(member.poll(max));
            for delivery in &member.out[before..] {
                self.keys.get_mut(&key_of(delivery)).unwrap().begin(number_of(delivery));
            }
        }
    }

    async fn settle(&mut self) {
        let count = self.members.len().max(1);
        let at = self.random.below(count);
        let Some(member) = self.members.get_mut(at).filter(|member| !member.out.is_empty()) else {
            return;
        };
        let which = self.random.below(member.out.len());
        let delivery = member.out.remove(which);
        match self.random.below(5) {
            0 => drop(delivery),
            1 => delivery.retry(Duration::ZERO, 1).await.unwrap(),
            _ => {
                let number = number_of(&delivery);
                delivery.ack().await.unwrap();
                assert!(!self.acknowledged.contains(&number), "{number} came twice");
                self.acknowledged.push(number);
            }
        }
    }

    fn check(&mut self) {
        let mut owners = BTreeMap::new();
        for (at, member) in self.members.iter().enumerate() {
            for delivery in &member.out {
                let owner = *owners.entry(key_of(delivery)).or_insert(at);
                assert_eq!(owner, at, "a key has two members");
            }
        }
        for member in &mut self.members {
            if member.is_owed_a_wake() {
                assert!(member.poll(1).is_pending(), "a member was not woken");
            }
        }
    }

    /// Everything comes in the end, and the buffer has as much room as it had.
    async fn end(mut self) {
        self.members.truncate(1);
        if self.members.is_empty() {
            self.members.push(Member::new(&self.broker, group()).await);
        }
        let member = &mut self.members[0];
        while self.acknowledged.len() < self.published {
            member.take_all();
            assert!(!member.out.is_empty(), "an event is gone");
            for delivery in member.out.drain(..) {
                self.acknowledged.push(number_of(&delivery));
                delivery.ack().await.unwrap();
            }
        }
        let now = PublishOptions::default().with_timeout(Duration::ZERO);
        for number in 0..=self.capacity {
            let next = [event(format!("last-{number}"), "k")];
            let accepted = self.broker.publish(&next, &now).await.is_ok();
            assert_eq!(accepted, number < self.capacity, "room was lost or made up at {number}");
        }
    }
}

#[tokio::test]
async fn whatever_members_do_no_event_room_or_wake_is_lost_and_no_key_has_two_members() {
    for seed in 1..=60 {
        println!("seed {seed}");
        let mut world = World::new(seed).await;
        for _ in 0..200 {
            world.step().await;
            world.check();
        }
        world.end().await;
    }
}
