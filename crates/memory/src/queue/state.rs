//! What a queue holds, under its lock.
//!
//! Undelivered events wait in `ready`. What is out is counted per key: a key belongs to one member
//! while any of its events is out, and its later events wait beside it where they may not go out
//! yet. A key has no history here: with nothing out and nothing waiting it takes no room.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;
use trunkline_core::Event;

use super::{Acked, Queue};

/// An undelivered event.
pub(crate) struct Entry {
    pub(crate) event: Event,
    /// The order of acceptance.
    pub(crate) seq: u64,
    pub(crate) attempts: u32,
    pub(crate) redeliveries: u32,
}

pub(super) struct Delayed {
    pub(super) due: Instant,
    pub(super) entry: Entry,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.entry.seq == other.entry.seq
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.entry.seq).cmp(&(other.due, other.entry.seq))
    }
}

pub(super) type Lanes<V> = HashMap<u64, V, foldhash::fast::RandomState>;

/// A key with something out, or waiting for what is out.
pub(super) struct KeyState {
    owner: MemberId,
    out: usize,
    pub(super) waiting: VecDeque<Entry>,
}

/// Names a member within its queue; never used again.
pub(crate) type MemberId = u64;

pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) waker: Option<Waker>,
    pub(super) out: usize,
    pub(super) prefetch: usize,
    pub(super) acked: Arc<Acked>,
    /// How much has to be free before it is worth waking.
    wanted: usize,
}

impl Member {
    pub(super) fn new(id: MemberId, prefetch: usize, acked: Arc<Acked>) -> Self {
        Self { id, waker: None, out: 0, prefetch, acked, wanted: 1 }
    }

    /// Notes that the member found nothing, and whom to wake.
    ///
    /// One that had room takes the next event that comes. One that had none is worth waking when it
    /// is short of work by a quarter: a wake for every single settlement would cost more than the
    /// events.
    pub(super) fn sleep(&mut self, waker: &Waker) {
        self.wanted = if self.out < self.prefetch { 1 } else { (self.prefetch / 4).max(1) };
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    fn is_hungry(&self) -> bool {
        self.out + self.wanted <= self.prefetch
    }
}

#[derive(Default)]
pub(super) struct State {
    /// By urgency, the most urgent last; without lanes only the first is used.
    pub(super) ready: [VecDeque<Entry>; 4],
    pub(super) keys: Lanes<KeyState>,
    /// Emptied queues of waiting events, kept so that a busy key allocates nothing.
    spare: Vec<VecDeque<Entry>>,
    pub(super) delayed: BinaryHeap<Reverse<Delayed>>,
    pub(super) members: Vec<Member>,
    /// Emptied by every use; kept so that receiving allocates nothing.
    pub(super) arrived: Vec<Entry>,
    /// Emptied by every use; exchanged with what members have gathered.
    acked: Vec<Option<u64>>,
    pub(super) next_member: MemberId,
    pub(super) waiting: usize,
    pub(super) in_flight: usize,
    /// Room that was taken without asking, to be paid back as events are delivered.
    pub(super) debt: usize,
    pub(super) dropped: u64,
    pub(super) ended: bool,
}

impl State {
    pub(super) fn pop_ready(&mut self) -> Option<Entry> {
        self.ready.iter_mut().rev().find_map(VecDeque::pop_front)
    }

    /// The event that was accepted first of those that are not out; looks at every waiting key.
    pub(super) fn pop_oldest(&mut self) -> Option<Entry> {
        let seq_of = |entries: &VecDeque<Entry>| entries.front().map(|entry| entry.seq);
        let ready = self.ready.iter().enumerate();
        let ready = ready.filter_map(|(at, entries)| Some((seq_of(entries)?, at))).min();
        let keys = self.keys.iter();
        let waiting = keys.filter_map(|(lane, key)| Some((seq_of(&key.waiting)?, *lane))).min();
        match (ready, waiting) {
            (Some((ready, _)), Some((waiting, lane))) if waiting < ready => self.pop_waiting(lane),
            (Some((_, at)), _) => self.ready[at].pop_front(),
            (None, Some((_, lane))) => self.pop_waiting(lane),
            (None, None) => None,
        }
    }

    fn pop_waiting(&mut self, lane: u64) -> Option<Entry> {
        let entry = self.keys.get_mut(&lane)?.waiting.pop_front()?;
        self.waiting -= 1;
        Some(entry)
    }

    pub(super) fn promote_due(&mut self, queue: &Queue) {
        if self.delayed.is_empty() {
            return;
        }
        let now = Instant::now();
        while self.delayed.peek().is_some_and(|Reverse(delayed)| delayed.due <= now) {
            if let Some(Reverse(Delayed { entry, .. })) = self.delayed.pop() {
                self.ready[queue.urgency(&entry.event)].push_back(entry);
            }
        }
    }

    /// Gives the entry out if its key is free or the member's own, else lets it wait at its key.
    ///
    /// A member has at most a quarter of its prefetch out of one key, so that a key that stands still
    /// leaves room for others, and so that the key can change hands when those are settled.
    pub(super) fn claim(
        &mut self,
        lane: Option<u64>,
        entry: Entry,
        member: MemberId,
        prefetch: usize,
    ) -> Option<Entry> {
        let Some(lane) = lane else { return Some(entry) };
        let spare = &mut self.spare;
        let key = self.keys.entry(lane).or_insert_with(|| KeyState {
            owner: member,
            out: 0,
            waiting: spare.pop().unwrap_or_default(),
        });
        let may_go =
            key.owner == member && key.waiting.is_empty() && key.out < (prefetch / 4).max(1);
        if may_go {
            key.out += 1;
            return Some(entry);
        }
        key.waiting.push_back(entry);
        self.waiting += 1;
        None
    }

    /// Works in what members have acknowledged.
    pub(super) fn collect(&mut self, queue: &Queue) {
        let mut acked = std::mem::take(&mut self.acked);
        for at in 0..self.members.len() {
            self.members[at].acked.exchange(&mut acked);
            self.members[at].out -= acked.len();
            self.in_flight -= acked.len();
            for lane in acked.drain(..).flatten() {
                self.finish_key(lane, None, queue);
            }
        }
        self.acked = acked;
    }

    /// Ends one delivery of `member`; with `back`, its entry returns to the head of its key.
    pub(super) fn finish(
        &mut self,
        member: MemberId,
        lane: Option<u64>,
        back: Option<Entry>,
        queue: &Queue,
    ) {
        self.in_flight -= 1;
        if let Some(member) = self.members.iter_mut().find(|known| known.id == member) {
            member.out -= 1;
        }
        match (lane, back) {
            (Some(lane), back) => self.finish_key(lane, back, queue),
            (None, Some(entry)) => self.ready[queue.urgency(&entry.event)].push_front(entry),
            (None, None) => {}
        }
    }

    /// Ends one of the key's deliveries; with nothing out any more, what waits may go out again.
    fn finish_key(&mut self, lane: u64, back: Option<Entry>, queue: &Queue) {
        let Some(key) = self.keys.get_mut(&lane) else { return };
        key.out -= 1;
        if let Some(entry) = back {
            // Not a binary search: a delayed event that has come due waits behind later ones.
            let later = key.waiting.iter().position(|known| known.seq > entry.seq);
            key.waiting.insert(later.unwrap_or(key.waiting.len()), entry);
            self.waiting += 1;
        }
        if key.out > 0 {
            return;
        }
        if let Some(mut key) = self.keys.remove(&lane) {
            self.waiting -= key.waiting.len();
            while let Some(entry) = key.waiting.pop_back() {
                self.ready[queue.urgency(&entry.event)].push_front(entry);
            }
            self.keep_spare(key.waiting);
        }
    }

    fn keep_spare(&mut self, emptied: VecDeque<Entry>) {
        const KEPT: usize = 64;
        if emptied.capacity() > 0 && self.spare.len() < KEPT {
            self.spare.push(emptied);
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready.iter().any(|ready| !ready.is_empty())
    }

    pub(super) fn has_hungry_sleeper(&self) -> bool {
        self.members.iter().any(|member| member.waker.is_some() && member.is_hungry())
    }

    /// The wakers of the members that wait and want more.
    ///
    /// All of them: one that was woken alone might have stopped asking by now.
    pub(super) fn hungry_wakers(&mut self) -> Wakers {
        self.wakers_of(Member::is_hungry)
    }

    /// The wakers of all members that wait.
    pub(super) fn all_wakers(&mut self) -> Wakers {
        self.wakers_of(|_| true)
    }

    fn wakers_of(&mut self, wanted: impl Fn(&Member) -> bool) -> Wakers {
        let mut wakers = Wakers::default();
        for member in self.members.iter_mut().filter(|member| wanted(member)) {
            if let Some(waker) = member.waker.take() {
                wakers.add(waker);
            }
        }
        wakers
    }
}

/// Wakers to be called once the lock is gone; one of them, the usual number, needs no allocation.
#[derive(Default)]
pub(super) struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    fn add(&mut self, waker: Waker) {
        match &self.first {
            None => self.first = Some(waker),
            Some(_) => self.more.push(waker),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(Waker::wake);
    }
}
