//! The queue of one group, or of one broadcast subscriber.

mod state;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::Waker;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use trunkline_core::{Event, EventId, Group, OnFull, Order};

pub(crate) use self::state::{Entry, MemberId};
use self::state::{Delayed, Member, State};
use crate::lock;

pub(crate) struct Queue {
    pub(crate) group: Option<Group>,
    pub(crate) capacity: usize,
    pub(crate) on_full: OnFull,
    order: Order,
    lanes: bool,
    /// Room for undelivered events.
    pub(crate) room: Semaphore,
    state: Mutex<State>,
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
        let state = Mutex::new(State::default());
        Self { group, capacity, on_full, order, lanes, room, state }
    }

    fn lane_of(&self, event: &Event) -> Option<u64> {
        let lane = match self.order {
            Order::PerKey => event.attributes().lane()?,
            Order::None => return None,
        };
        // With lanes on, order holds within a priority.
        let priority = if self.lanes { event.attributes().priority() as u64 } else { 0 };
        Some(lane.wrapping_add(priority.wrapping_mul(0x1000_0001)))
    }

    pub(super) fn urgency(&self, event: &Event) -> usize {
        if self.lanes { event.attributes().priority() as usize } else { 0 }
    }

    /// Appends an event whose room has been taken.
    pub(crate) fn push(&self, event: Event, due: Option<Instant>) {
        let urgency = self.urgency(&event);
        let mut state = lock(&self.state);
        let seq = state.next_seq;
        state.next_seq += 1;
        let entry = Entry { event, seq, attempts: 0, redeliveries: 0 };
        match due {
            Some(due) => state.delayed.push(Reverse(Delayed { due, entry })),
            None => state.ready[urgency].push_back(entry),
        }
        let wakers = state.hungry_wakers();
        drop(state);
        wakers.wake();
    }

    /// Appends an event whether there is room or not; room is paid back later.
    pub(crate) fn push_over(&self, event: Event, due: Option<Instant>) {
        match self.room.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => lock(&self.state).debt += 1,
        }
        self.push(event, due);
    }

    /// Drops the oldest undelivered event that is not due later, and takes its room.
    pub(crate) fn drop_oldest(&self) -> bool {
        let mut state = lock(&self.state);
        let dropped = state.ready.iter_mut().find_map(VecDeque::pop_front).is_some();
        state.dropped += u64::from(dropped);
        dropped
    }

    pub(crate) fn join(&self, prefetch: usize) -> MemberId {
        let mut state = lock(&self.state);
        let id = state.next_member;
        state.next_member += 1;
        state.members.push(Member { id, waker: None, out: 0, prefetch });
        id
    }

    /// What is out stays the member's until its deliveries are settled or dropped.
    pub(crate) fn leave(&self, member: MemberId) {
        let mut state = lock(&self.state);
        state.members.retain(|known| known.id != member);
        let wakers = state.hungry_wakers();
        drop(state);
        wakers.wake();
    }

    /// Hands up to `max` entries to `member`, or keeps `waker` to call when there are some.
    pub(crate) fn take(
        &self,
        member: MemberId,
        max: usize,
        waker: &Waker,
        out: &mut Vec<Entry>,
    ) -> Turn {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if state.ended {
            return Turn::Ended;
        }
        state.promote_due(self);
        let Some(at) = state.members.iter().position(|known| known.id == member) else {
            return Turn::Ended;
        };
        let (prefetch, already) = (state.members[at].prefetch, state.members[at].out);
        let wanted = max.min(prefetch.saturating_sub(already));
        let before = out.len();
        while out.len() - before < wanted {
            let Some(entry) = state.pop_ready() else { break };
            if let Some(entry) = state.claim(self.lane_of(&entry.event), entry, member, prefetch) {
                out.push(entry);
            }
        }
        let taken = out.len() - before;
        state.members[at].out += taken;
        state.in_flight += taken;
        let repaid = taken.min(state.debt);
        state.debt -= repaid;
        self.room.add_permits(taken - repaid);
        if taken > 0 {
            state.members[at].waker = None;
            let wakers = guard.hungry_wakers();
            drop(guard);
            wakers.wake();
            return Turn::Taken;
        }
        let known = &mut state.members[at].waker;
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        Turn::Empty(state.delayed.peek().map(|Reverse(delayed)| delayed.due))
    }

    /// Ends one delivery; with `back`, its entry returns to the head of its key.
    pub(crate) fn settle(&self, member: MemberId, event: &Event, back: Option<Entry>) {
        let lane = self.lane_of(event);
        let urgency = self.urgency(event);
        let mut state = lock(&self.state);
        if back.is_some() {
            self.retake_room(&mut state);
        }
        state.finish(member);
        match (lane, back) {
            (Some(lane), back) => state.finish_key(lane, urgency, back),
            (None, Some(entry)) => state.ready[urgency].push_front(entry),
            (None, None) => {}
        }
        let wakers = state.hungry_wakers();
        drop(state);
        wakers.wake();
    }

    /// Ends one delivery whose delayed copy has been made.
    pub(crate) fn delay(&self, member: MemberId, entry: Entry, due: Instant) {
        let event = entry.event.clone();
        let mut state = lock(&self.state);
        self.retake_room(&mut state);
        state.delayed.push(Reverse(Delayed { due, entry }));
        drop(state);
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
        let mut state = lock(&self.state);
        let before = state.delayed.len();
        let is_cancelled =
            |delayed: &Delayed| delayed.entry.redeliveries == 0 && delayed.entry.event.id() == id;
        state.delayed.retain(|Reverse(delayed)| !is_cancelled(delayed));
        let cancelled = before - state.delayed.len();
        let repaid = cancelled.min(state.debt);
        state.debt -= repaid;
        self.room.add_permits(cancelled - repaid);
        cancelled > 0
    }

    /// Ends the queue: members get no more, waiting publishers are refused.
    pub(crate) fn end(&self) {
        self.room.close();
        let mut state = lock(&self.state);
        state.ended = true;
        let wakers: Vec<Waker> = state.members.iter_mut().filter_map(|m| m.waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn depth(&self) -> Depth {
        let state = lock(&self.state);
        let ready: usize = state.ready.iter().map(VecDeque::len).sum();
        Depth {
            members: state.members.len(),
            undelivered: ready + state.waiting + state.delayed.len(),
            in_flight: state.in_flight,
            dropped: state.dropped,
        }
    }

    /// Calls `each` with every undelivered event.
    pub(crate) fn visit(&self, mut each: impl FnMut(&Event)) {
        let state = lock(&self.state);
        let waiting = state.keys.values().flat_map(|key| &key.waiting);
        let delayed = state.delayed.iter().map(|Reverse(delayed)| &delayed.entry);
        for entry in state.ready.iter().flatten().chain(waiting).chain(delayed) {
            each(&entry.event);
        }
    }
}
