//! Events of one topic and key come in order, to one member at a time.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::task::JoinSet;
use trunkline_core::{Broker, Delivery, SubscribeOptions};

use super::{
    BrokerProperty, Subject, Taker, ack, eventually, keyed, number, patience, promise, spread,
};
use crate::failure::{Check, Failure, ensure, ensure_eq};

pub(super) fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    vec![
        promise!(events_of_a_key_come_in_the_order_of_publishing),
        promise!(events_accepted_one_by_one_come_in_that_order),
        promise!(a_key_that_stands_still_holds_no_other_up),
        promise!(while_a_key_is_with_one_member_the_other_gets_nothing_of_it),
        promise!(a_key_is_with_one_member_at_a_time_and_in_order),
        promise!(order_holds_while_members_come_and_go),
    ]
}

async fn events_of_a_key_come_in_the_order_of_publishing<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    let mut listener = subject.listen(&topic).await?;
    for round in 0..5 {
        subject.publish(&spread(&topic, 10, round * 100..round * 100 + 100)?).await?;
    }
    for taker in [&mut member, &mut listener] {
        let mut next: HashMap<u64, u64> = (0..10).map(|key| (key, key)).collect();
        for _ in 0..500 {
            let found = number(&taker.event().await?)?;
            let wanted = next.entry(found % 10).or_default();
            ensure_eq!(found, *wanted, "the next number of key-{}", found % 10);
            *wanted += 10;
        }
        taker.nothing().await?;
    }
    Ok(())
}

async fn events_accepted_one_by_one_come_in_that_order<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    for event in keyed(&topic, "k", 0..100)? {
        subject.publish_one(&event).await?;
    }
    member.expect(0..100).await
}

async fn a_key_that_stands_still_holds_no_other_up<B: Broker>(subject: Subject<B>) -> Check {
    let topic = subject.topic("a")?;
    let mut member = subject.join("g", &topic).await?;
    subject.publish(&spread(&topic, 2, 0..20)?).await?;
    let (mut held, mut flowed) = (Vec::new(), Vec::new());
    while flowed.len() < 10 {
        let delivery = member.next().await?;
        match number(delivery.event())? {
            even if even % 2 == 0 => held.push(delivery),
            odd => {
                flowed.push(odd);
                ack(delivery).await?;
            }
        }
    }
    ensure!(flowed.is_sorted(), "the other key came as {flowed:?}");
    for delivery in held {
        ack(delivery).await?;
    }
    Ok(())
}

async fn while_a_key_is_with_one_member_the_other_gets_nothing_of_it<B: Broker>(
    subject: Subject<B>,
) -> Check {
    let topic = subject.topic("a")?;
    let mut one = subject.join("g", &topic).await?;
    let mut two = subject.join("g", &topic).await?;
    subject.publish(&keyed(&topic, "k", 0..4)?).await?;
    // Which of them gets the key, and whether it moves between two events, is up to the broker.
    for wanted in 0..4 {
        let (delivery, other) = {
            let (one_next, two_next) = (pin!(one.next()), pin!(two.next()));
            match select(one_next, two_next).await {
                Either::Left((delivery, _)) => (delivery?, 1),
                Either::Right((delivery, _)) => (delivery?, 0),
            }
        };
        ensure_eq!(number(delivery.event())?, wanted, "the next number");
        let other = if other == 1 { &mut two } else { &mut one };
        other.nothing().await?;
        ack(delivery).await?;
    }
    Ok(())
}

/// Who holds which key, what was handled of it last, and what was wrong.
#[derive(Default)]
struct Ledger {
    keys: Mutex<HashMap<u64, Entry>>,
    keys_in_turn: u64,
    faults: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Entry {
    holder: Option<usize>,
    held: usize,
    handled: u64,
}

impl Ledger {
    fn of_keys(keys: u64) -> Arc<Self> {
        Arc::new(Self { keys_in_turn: keys, ..Self::default() })
    }

    fn with_key(&self, number: u64, change: impl FnOnce(&mut Entry)) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        change(keys.entry(number % self.keys_in_turn).or_default());
    }

    fn fault(&self, text: String) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn receive(&self, member: usize, number: u64) {
        self.with_key(number, |entry| {
            if let Some(other) = entry.holder.filter(|holder| *holder != member) {
                self.fault(format!("number {number} came to {member} while {other} holds its key"));
            }
            entry.holder = Some(member);
            entry.held += 1;
        });
    }

    /// Must be called before the broker is told, which may give the key to another at once.
    fn let_go(&self, number: u64) {
        self.with_key(number, |entry| {
            entry.held = entry.held.saturating_sub(1);
            if entry.held == 0 {
                entry.holder = None;
            }
        });
    }

    fn handle(&self, number: u64) {
        self.with_key(number, |entry| {
            let due = entry.handled * self.keys_in_turn + number % self.keys_in_turn;
            if number != due {
                self.fault(format!("number {number} was handled where {due} was due"));
            }
            entry.handled += 1;
        });
    }

    fn handled(&self) -> u64 {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.values().map(|entry| entry.handled).sum()
    }

    fn ensure_clean(&self) -> Check {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(faults.is_empty(), "{} faults, first: {}", faults.len(), faults[0]);
        Ok(())
    }
}

/// How a member works: deliveries at a time, and how many rounds it stays.
#[derive(Clone, Copy)]
struct Habit {
    batch: usize,
    rounds: usize,
}

/// Handles what it is given, one after the other, and leaves with the last round half done.
async fn work_a_while(
    ledger: &Ledger,
    member: usize,
    mut taker: Taker,
    habit: Habit,
) -> Result<(), Failure> {
    for round in 1..=habit.rounds {
        let Some(batch) = taker.some(habit.batch).await? else { return Ok(()) };
        for delivery in &batch {
            ledger.receive(member, number(delivery.event())?);
        }
        let is_last = round == habit.rounds;
        let finished = if is_last { batch.len() / 2 } else { batch.len() };
        for (place, delivery) in batch.into_iter().enumerate() {
            finish(ledger, delivery, place < finished).await?;
        }
    }
    taker.leave().await
}

async fn finish(ledger: &Ledger, delivery: Delivery, handles: bool) -> Check {
    let number = number(delivery.event())?;
    if handles {
        // A different time for each event, so that members get in each other's way.
        match (number.wrapping_mul(0x9e37) >> 3) % 8 {
            0 => tokio::time::sleep(Duration::from_millis(1)).await,
            turns => yield_times(turns).await,
        }
        ledger.handle(number);
    }
    ledger.let_go(number);
    if handles { ack(delivery).await } else { Ok(()) }
}

async fn yield_times(turns: u64) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// Four members handle `count` events of 40 keys with these habits; the ledger is checked.
async fn ensure_ordered<B: Broker>(subject: Subject<B>, rounds: usize, count: u64) -> Check {
    let (subject, topic) = (Arc::new(subject), "a");
    let ledger = Ledger::of_keys(40);
    let options = subject.member_of("g", &subject.topic(topic)?)?.with_prefetch(32);
    subject.declare("g", &subject.topic(topic)?).await?;
    let mut members = JoinSet::new();
    for member in 0..4 {
        let (subject, ledger, options) =
            (Arc::clone(&subject), Arc::clone(&ledger), options.clone());
        members.spawn(async move {
            let habit = Habit { batch: 3 + member * 2, rounds: rounds + member };
            if let Err(failure) = keep_working(&subject, &ledger, member, options, habit).await {
                ledger.fault(format!("member {member} failed: {failure}"));
            }
        });
    }
    for round in 0..count / 40 {
        subject.publish(&spread(&subject.topic(topic)?, 40, round * 40..round * 40 + 40)?).await?;
    }
    let all = || async {
        ledger.ensure_clean()?;
        Ok(ledger.handled() >= count)
    };
    eventually(2 * patience(), "every event is handled", all).await?;
    subject.settled("g").await?;
    members.shutdown().await;
    ensure_eq!(ledger.handled(), count, "the number of events handled");
    ledger.ensure_clean()
}

async fn keep_working<B: Broker>(
    subject: &Subject<B>,
    ledger: &Ledger,
    member: usize,
    options: SubscribeOptions,
    habit: Habit,
) -> Check {
    loop {
        let taker = subject.subscribe(options.clone()).await?;
        work_a_while(ledger, member, taker, habit).await?;
    }
}

async fn a_key_is_with_one_member_at_a_time_and_in_order<B: Broker>(subject: Subject<B>) -> Check {
    // Members that stay: only sharing is put to the test.
    ensure_ordered(subject, usize::MAX / 2, 4_000).await
}

async fn order_holds_while_members_come_and_go<B: Broker>(subject: Subject<B>) -> Check {
    // A server takes its time to tell a group that it has changed.
    let rounds = if subject.is_in_process() { 5 } else { 60 };
    ensure_ordered(subject, rounds, 2_000).await
}
