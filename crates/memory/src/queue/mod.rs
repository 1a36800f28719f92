//! The queue of one group, or of one broadcast subscriber.

mod acked;
mod state;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use trunkline_core::{Event, EventId, Group, OnFull, Order};

pub(crate) use self::acked::Acked;
use self::acked::Added;
use self::state::{Delayed, Member, State, Wakers};
pub(crate) use self::state::{Entry, MemberId};
use crate::lock;

/// Two locks: publishers append to the inbox, members share the state, and what has arrived moves
/// from the one to the other a batch at a time.
pub(crate) struct Queue {
    pub(crate) group: Option<Group>,
    pub(crate) capacity: usize,
    pub(crate) on_full: OnFull,
    order: Order,
    lanes: bool,
    /// Room for undelivered events.
    pub(crate) room: Semaphore,
    inbox: Apart<Mutex<Inbox>>,
    /// Whether a member that wants more waits to be woken. Set before the inbox is looked at for the
    /// last time, and read after the inbox was appended to, so that no event is left unseen.
    asleep: Apart<AtomicBool>,
    /// Whether somebody may be waiting for an acknowledgement: then each is worked in at once, and
    /// else a batch at a time.
    eager: Apart<AtomicBool>,
    state: Apart<Mutex<State>>,
}

/// On cache lines of its own: publishers write the inbox while members read and write the rest, and
/// neither may have to fetch what the other has just written beside it.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[derive(Default)]
struct Inbox {
    arrived: Vec<Entry>,
    next_seq: u64,
}

impl Inbox {
    /// An event has the number of its place in the history, where one is kept, in every queue.
    fn number(&mut self, event: Event, place: Option<u64>) -> Entry {
        let seq = place.unwrap_or(self.next_seq);
        self.next_seq += 1;
        Entry { event, seq, attempts: 0, redeliveries: 0 }
    }
}

/// What a queue holds, counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Depth {
    pub(crate) members: usize,
    pub(crate) undelivered: usize,
    pub(crate) in_flight: usize,
    pub(crate) dropped: u64,
}

/// The outcome of a member's turn.
pub(crate) enum Turn {
    /// Entries were appended.
    Taken,
    /// Nothing for this member now; the first delayed event is due then.
    Empty(Option<Instant>),
    /// The queue has ended.
    Ended,
}

impl Queue {
    pub(crate) fn new(
        group: Option<Group>,
        capacity: usize,
        on_full: OnFull,
        order: Order,
        lanes: bool,
    ) -> Self {
        let room = Semaphore::new(capacity.min(Semaphore::MAX_PERMITS));
        let (inbox, asleep, state) = Default::default();
        let eager = Apart(AtomicBool::new(true));
        Self { group, capacity, on_full, order, lanes, room, inbox, asleep, eager, state }
    }

    fn lane_of(&self, event: &Event) -> Option<u64> {
        match self.order {
            Order::PerKey if self.lanes => event.attributes().lane_in_priority(),
            Order::PerKey => event.attributes().lane(),
            Order::None => None,
        }
    }

    pub(super) fn urgency(&self, event: &Event) -> usize {
        if self.lanes { event.attributes().priority() as usize } else { 0 }
    }

    /// Appends an event whose room has been taken.
    pub(crate) fn push(&self, event: Event, place: Option<u64>, due: Option<Instant>) {
        let mut inbox = lock(&self.inbox);
        let entry = inbox.number(event, place);
        if let Some(due) = due {
            drop(inbox);
            let mut state = lock(&self.state);
            state.delayed.push(Reverse(Delayed { due, entry }));
            // They have to set their alarms.
            let wakers = state.all_wakers();
            drop(state);
            return wakers.wake();
        }
        inbox.arrived.push(entry);
        drop(inbox);
        if self.asleep.load(Ordering::SeqCst) {
            self.rouse(lock(&self.state));
        }
    }

    /// Moves what has arrived to where members take it from.
    fn receive(&self, state: &mut State) {
        let mut arrived = std::mem::take(&mut state.arrived);
        std::mem::swap(&mut lock(&self.inbox).arrived, &mut arrived);
        for entry in arrived.drain(..) {
            state.ready[self.urgency(&entry.event)].push_back(entry);
        }
        state.arrived = arrived;
    }

    /// The state, with everything that has arrived and was acknowledged worked into it. Who is done
    /// with it rouses: a member may wait for the very acknowledgements that were worked in.
    fn received(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        state.collect(self);
        self.receive(&mut state);
        state
    }

    /// Wakes members that want more, if there is something; notes whether one sleeps on.
    fn rouse(&self, mut state: MutexGuard<'_, State>) {
        let wakers = self.find_wakers(&mut state);
        drop(state);
        wakers.wake();
    }

    fn find_wakers(&self, state: &mut State) -> Wakers {
        let eager = state.members.len() != 1 || state.waiting > 0;
        if self.eager.swap(eager, Ordering::SeqCst) != eager && eager {
            // What was acknowledged before this could be seen is not waited for.
            state.collect(self);
        }
        if !state.has_hungry_sleeper() {
            self.set_asleep(false);
            return Wakers::default();
        }
        self.receive(state);
        if !state.has_ready() {
            self.set_asleep(true);
            self.receive(state);
        }
        if !state.has_ready() {
            return Wakers::default();
        }
        self.set_asleep(false);
        state.hungry_wakers()
    }

    fn set_asleep(&self, asleep: bool) {
        // Mostly it stays as it is, and then the publishers' copy of it stays valid.
        if self.asleep.load(Ordering::Relaxed) != asleep {
            self.asleep.store(asleep, Ordering::SeqCst);
        }
    }

    /// Appends an event whether there is room or not; room is paid back later.
    pub(crate) fn push_over(&self, event: Event, place: u64, due: Option<Instant>) {
        self.retake_room(&mut lock(&self.state));
        self.push(event, Some(place), due);
    }

    /// Drops the oldest undelivered event that is not due later, and takes its room.
    pub(crate) fn drop_oldest(&self) -> bool {
        let mut state = self.received();
        let dropped = state.pop_oldest();
        state.dropped += u64::from(dropped.is_some());
        self.rouse(state);
        // The payload is the user's, and so is what happens when it is dropped: not under the lock.
        dropped.is_some()
    }

    pub(crate) fn join(&self, prefetch: usize) -> (MemberId, Arc<Acked>) {
        let mut state = lock(&self.state);
        let id = state.next_member;
        state.next_member += 1;
        let acked = Arc::new(Acked::new(prefetch));
        let shared = Arc::clone(&acked);
        state.members.push(Member::new(id, prefetch, shared));
        self.rouse(state);
        (id, acked)
    }

    /// What is out stays the member's until its deliveries are settled or dropped.
    pub(crate) fn leave(&self, member: MemberId) {
        let mut state = lock(&self.state);
        state.collect(self);
        if let Some(at) = state.members.iter().position(|known| known.id == member) {
            let late = state.members.swap_remove(at).acked.leave();
            for lane in late {
                state.finish(member, lane, None, self);
            }
        }
        self.rouse(state);
    }

    /// Acknowledges one delivery.
    pub(crate) fn ack(&self, member: MemberId, acked: &Acked, event: &Event) {
        match acked.add(self.lane_of(event)) {
            Added::Full => {}
            Added::Kept if self.eager.load(Ordering::SeqCst) => {}
            Added::Kept => return,
            Added::Left => return self.settle(member, event, None),
        }
        let mut state = lock(&self.state);
        state.collect(self);
        self.rouse(state);
    }

    /// Hands up to `max` entries to `member`, or keeps `waker` to call when there are some.
    pub(crate) fn take(
        &self,
        member: MemberId,
        max: usize,
        waker: &Waker,
        out: &mut Vec<Entry>,
    ) -> Turn {
        loop {
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let at = state.members.iter().position(|known| known.id == member);
            let Some(at) = at.filter(|_| !state.ended) else { return Turn::Ended };
            state.collect(self);
            state.promote_due(self);
            if self.lanes || !state.has_ready() {
                self.receive(state);
            }
            if self.hand_out(state, at, max, out) > 0 {
                self.rouse(guard);
                return Turn::Taken;
            }
            state.members[at].sleep(waker);
            let wakers = self.find_wakers(state);
            if wakers.is_empty() {
                return Turn::Empty(state.delayed.peek().map(|Reverse(delayed)| delayed.due));
            }
            // Something arrived in the meantime, and this member is one of those it may be for.
            drop(guard);
            wakers.wake();
        }
    }

    fn hand_out(&self, state: &mut State, at: usize, max: usize, out: &mut Vec<Entry>) -> usize {
        let Member { id, out: already, prefetch, .. } = &state.members[at];
        let (id, already, prefetch) = (*id, *already, *prefetch);
        let wanted = max.min(prefetch.saturating_sub(already));
        let before = out.len();
        while out.len() - before < wanted {
            let Some(entry) = state.pop_ready() else { break };
            if let Some(entry) = state.claim(self.lane_of(&entry.event), entry, id, prefetch) {
                out.push(entry);
            }
        }
        let taken = out.len() - before;
        if taken > 0 {
            state.members[at].out += taken;
            state.members[at].waker = None;
            state.in_flight += taken;
            self.give_room(state, taken);
        }
        taken
    }

    /// Gives room back, less what was taken without asking.
    fn give_room(&self, state: &mut State, room: usize) {
        let repaid = room.min(state.debt);
        state.debt -= repaid;
        self.room.add_permits(room - repaid);
    }

    /// Ends one delivery; with `back`, its entry returns to the head of its key.
    pub(crate) fn settle(&self, member: MemberId, event: &Event, back: Option<Entry>) {
        let lane = self.lane_of(event);
        let mut state = lock(&self.state);
        if back.is_some() {
            self.retake_room(&mut state);
        }
        state.finish(member, lane, back, self);
        self.rouse(state);
    }

    /// Ends one delivery whose delayed copy has been made.
    pub(crate) fn delay(&self, member: MemberId, entry: Entry, due: Instant) {
        let event = entry.event.clone();
        let mut state = lock(&self.state);
        self.retake_room(&mut state);
        state.delayed.push(Reverse(Delayed { due, entry }));
        let wakers = state.all_wakers();
        drop(state);
        wakers.wake();
        self.settle(member, &event, None);
    }

    /// An event that comes back counts as undelivered again.
    fn retake_room(&self, state: &mut State) {
        match self.room.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => state.debt += 1,
        }
    }

    /// Removes a delayed event that was never handed out.
    pub(crate) fn cancel(&self, id: &EventId) -> bool {
        let is_cancelled = |Reverse(Delayed { entry, .. }): &Reverse<Delayed>| {
            entry.redeliveries == 0 && entry.event.id() == id
        };
        let mut state = lock(&self.state);
        let delayed = std::mem::take(&mut state.delayed);
        let (cancelled, kept): (Vec<_>, Vec<_>) = delayed.into_iter().partition(is_cancelled);
        state.delayed = kept.into();
        self.give_room(&mut state, cancelled.len());
        drop(state);
        !cancelled.is_empty()
    }

    /// Ends the queue: members get no more, waiting publishers are refused.
    pub(crate) fn end(&self) {
        self.room.close();
        let mut state = lock(&self.state);
        state.ended = true;
        let wakers = state.all_wakers();
        drop(state);
        wakers.wake();
    }

    pub(crate) fn depth(&self) -> Depth {
        let state = self.received();
        let ready: usize = state.ready.iter().map(VecDeque::len).sum();
        let depth = Depth {
            members: state.members.len(),
            undelivered: ready + state.waiting + state.delayed.len(),
            in_flight: state.in_flight,
            dropped: state.dropped,
        };
        self.rouse(state);
        depth
    }

    /// Calls `each` with every undelivered event.
    pub(crate) fn visit(&self, mut each: impl FnMut(&Event)) {
        let state = self.received();
        let waiting = state.keys.values().flat_map(|key| &key.waiting);
        let delayed = state.delayed.iter().map(|Reverse(delayed)| &delayed.entry);
        for entry in state.ready.iter().flatten().chain(waiting).chain(delayed) {
            each(&entry.event);
        }
        self.rouse(state);
    }
}
