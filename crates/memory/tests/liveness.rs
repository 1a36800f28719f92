//! Nobody sleeps while there is work for them, and nobody waits for what has gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use trunkline_core::{
    Broker, BrokerAdmin, BrokerExt, Data, Delivery, ErrorKind, Event, Group, GroupSpec, OnFull,
    Pattern, PublishOptions, SubscribeOptions, Subscription, SubscriptionExt, Topic,
};
use trunkline_memory::{MemoryBroker, MemoryConfig};

const SOON: Duration = Duration::from_secs(10);

fn event(id: impl ToString, key: &str) -> Event {
    let topic = Topic::from_static("orders");
    Event::from_data("T", topic, Data::json("1")).id(id.to_string()).key(key).build().unwrap()
}

fn group() -> SubscribeOptions {
    SubscribeOptions::group(Group::new("billing").unwrap(), [Pattern::all()])
}

fn id(delivery: &Delivery) -> String {
    delivery.event().id().to_string()
}

/// A member that remembers whether it was woken since it last found nothing.
struct Member {
    subscription: Box<dyn Subscription>,
    woken: Arc<Woken>,
    is_asleep: bool,
    out: Vec<Delivery>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Member {
    async fn new(broker: &MemoryBroker, options: SubscribeOptions) -> Self {
        let subscription = broker.subscribe(options).await.unwrap();
        Self { subscription, woken: Arc::default(), is_asleep: false, out: Vec::new() }
    }

    fn poll(&mut self, max: usize) -> Poll<trunkline_core::Result<bool>> {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        let polled = self.subscription.poll_deliveries(&mut cx, max, &mut self.out);
        self.is_asleep = polled.is_pending();
        polled
    }

    /// Takes all it can get, and falls asleep.
    fn take_all(&mut self) {
        while self.poll(usize::MAX).is_ready() {}
    }

    fn sleeps(&self) -> bool {
        self.is_asleep && !self.woken.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_member_that_holds_nearly_all_it_may_is_woken_for_the_next_event() {
    let broker = MemoryBroker::default();
    let mut member = Member::new(&broker, group().with_prefetch(8)).await;
    for number in 0..7 {
        broker.publish_one(&event(number, &number.to_string())).await.unwrap();
    }
    member.take_all();
    assert_eq!(member.out.len(), 7);
    broker.publish_one(&event(7, "7")).await.unwrap();
    assert!(!member.sleeps(), "one more may be out, and there is one");
}

#[tokio::test]
async fn a_member_is_woken_although_others_looked_at_the_queue_while_it_acknowledged() {
    let broker = MemoryBroker::default();
    let mut member = Member::new(&broker, group().with_prefetch(8)).await;
    for number in 0..16 {
        broker.publish_one(&event(number, &number.to_string())).await.unwrap();
    }
    member.take_all();
    for delivery in member.out.split_off(0) {
        delivery.ack().await.unwrap();
        broker.health().await;
    }
    assert!(!member.sleeps(), "eight are acknowledged, and eight wait");
}

#[tokio::test]
async fn a_member_is_woken_although_its_buffer_overflows_while_it_acknowledges() {
    let broker = MemoryBroker::default();
    let lossy = SubscribeOptions::broadcast([Pattern::all()])
        .with_prefetch(8)
        .with_buffer(8, OnFull::DropOldest);
    let mut member = Member::new(&broker, lossy).await;
    for number in 0..8 {
        broker.publish_one(&event(number, &number.to_string())).await.unwrap();
    }
    member.take_all();
    for number in 8..16 {
        broker.publish_one(&event(number, &number.to_string())).await.unwrap();
    }
    for delivery in member.out.split_off(0) {
        delivery.ack().await.unwrap();
        broker.publish_one(&event("more", "more")).await.unwrap();
    }
    assert!(!member.sleeps(), "eight are acknowledged, and eight wait");
}

#[tokio::test]
async fn a_released_event_is_first_of_its_key_also_where_a_delayed_one_waits() {
    let broker = MemoryBroker::default();
    let mut member = Member::new(&broker, group().with_prefetch(4)).await;
    tokio::time::pause();
    let later = PublishOptions::default().with_delay(Duration::from_secs(1));
    let early = [event("scheduled", "k")];
    broker.publish(&early, &later).await.into_result().unwrap();
    for number in 1..=2 {
        broker.publish_one(&event(number, "k")).await.unwrap();
    }
    // Of one key a quarter of the prefetch is out; the second event waits, and then the scheduled one.
    member.take_all();
    tokio::time::advance(Duration::from_secs(2)).await;
    member.take_all();
    assert_eq!(member.out.iter().map(id).collect::<Vec<_>>(), ["1"]);
    drop(member.out.pop());
    member.take_all();
    assert_eq!(member.out.iter().map(id).collect::<Vec<_>>(), ["1"]);
}

#[tokio::test]
async fn a_publisher_goes_on_when_the_subscriber_that_it_waits_for_leaves() {
    let broker = MemoryBroker::default();
    let mut stays = Member::new(&broker, group()).await;
    let slow = SubscribeOptions::broadcast([Pattern::all()]).with_buffer(1, OnFull::Block);
    let slow = broker.subscribe(slow).await.unwrap();
    broker.publish_one(&event(0, "k")).await.unwrap();
    let publisher = broker.clone();
    let waiting = tokio::spawn(async move { publisher.publish_one(&event(1, "k")).await });
    // Long enough that it has stopped looking and waits.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    drop(slow);
    tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    stays.take_all();
    assert_eq!(stays.out.len(), 2);
}

#[tokio::test]
async fn a_scheduled_event_comes_to_a_new_group_at_its_time_and_not_once_it_is_cancelled() {
    let broker = MemoryBroker::new(MemoryConfig::default().with_history(10));
    tokio::time::pause();
    let later = PublishOptions::default().with_delay(Duration::from_secs(60));
    let events = [event("kept", "k"), event("cancelled", "k")];
    broker.publish(&events, &later).await.into_result().unwrap();
    assert!(broker.cancel(events[1].id()).await.unwrap());
    let mut member = Member::new(&broker, group()).await;
    member.take_all();
    assert!(member.out.is_empty(), "it is not due");
    tokio::time::advance(Duration::from_secs(61)).await;
    member.take_all();
    assert_eq!(member.out.iter().map(id).collect::<Vec<_>>(), ["kept"]);
}

#[tokio::test]
async fn a_wait_without_end_is_a_long_wait() {
    let broker = MemoryBroker::default();
    let mut member = Member::new(&broker, group().with_buffer(1, OnFull::Block)).await;
    let endless = PublishOptions::default().with_timeout(Duration::MAX);
    let events = [event(0, "a"), event(1, "b")];
    let publishing = broker.publish(&events, &endless);
    member.take_all();
    tokio::time::timeout(SOON, publishing).await.unwrap().into_result().unwrap();
    member.take_all();
    let delivery = member.out.pop().unwrap();
    delivery.retry(Duration::MAX, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_made_during_a_close_ends() {
    for _ in 0..500 {
        let broker = MemoryBroker::default();
        let (closing, start) = (broker.clone(), Arc::new(tokio::sync::Barrier::new(2)));
        let started = Arc::clone(&start);
        let closed = tokio::spawn(async move {
            started.wait().await;
            closing.close(SOON).await
        });
        start.wait().await;
        let subscribed = broker.subscribe(group()).await;
        closed.await.unwrap().unwrap();
        match subscribed {
            Ok(mut subscription) => {
                let next = tokio::time::timeout(SOON, subscription.next()).await;
                assert!(next.expect("it ends").unwrap().is_none());
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_while_its_group_is_deleted_is_in_the_group() {
    for _ in 0..500 {
        let broker = MemoryBroker::default();
        let name = Group::new("billing").unwrap();
        broker.declare_group(GroupSpec::new(name.clone(), [Pattern::all()])).await.unwrap();
        let (deleting, start) = (broker.clone(), Arc::new(tokio::sync::Barrier::new(2)));
        let started = Arc::clone(&start);
        let deleted = tokio::spawn(async move {
            started.wait().await;
            deleting.delete_group(&name).await
        });
        start.wait().await;
        let mut subscription = broker.subscribe(group()).await.unwrap();
        if let Err(error) = deleted.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        broker.publish_one(&event(0, "k")).await.unwrap();
        let next = tokio::time::timeout(SOON, subscription.next()).await;
        assert!(next.expect("it is delivered").unwrap().is_some());
    }
}

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
    acknowledged: BTreeMap<usize, String>,
    capacity: usize,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let capacity = 1 + random.below(40);
        let broker = MemoryBroker::default();
        let mut spec = GroupSpec::new(Group::new("billing").unwrap(), [Pattern::all()]);
        spec.buffer = Some(capacity);
        broker.declare_group(spec).await.unwrap();
        let (members, acknowledged) = Default::default();
        Self { broker, random, members, published: 0, acknowledged, capacity }
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
            Ok(()) => self.published += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Full),
        }
    }

    fn poll(&mut self) {
        let count = self.members.len();
        if count > 0 {
            let at = self.random.below(count);
            let max = 1 + self.random.below(4);
            drop(self.members[at].poll(max));
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
                let number = id(&delivery).parse().unwrap();
                let key = delivery.event().attributes().key().unwrap().to_owned();
                delivery.ack().await.unwrap();
                assert!(self.acknowledged.insert(number, key).is_none(), "{number} came twice");
            }
        }
    }

    fn check(&mut self) {
        let mut owners = BTreeMap::new();
        for (at, member) in self.members.iter().enumerate() {
            for delivery in &member.out {
                let key = delivery.event().attributes().key().unwrap().to_owned();
                assert_eq!(*owners.entry(key).or_insert(at), at, "a key has two members");
            }
        }
        for member in &mut self.members {
            if member.out.is_empty() && member.sleeps() {
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
                self.acknowledged.insert(id(&delivery).parse().unwrap(), String::new());
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
    for seed in 1..=300 {
        println!("seed {seed}");
        let mut world = World::new(seed).await;
        for _ in 0..400 {
            world.step().await;
            world.check();
        }
        world.end().await;
    }
}
