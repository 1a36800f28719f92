//! What one subscription has read and not settled, under one lock.
//!
//! Entries wait in `ready`. What is out is counted per key, and a key's later entries wait beside it
//! where they may not go out yet, so that what comes back finds its place before them.

use std::collections::VecDeque;
use std::task::Waker;

use tokio::time::Instant;
use trunkline_core::{Error, Event};

use crate::entry::{Acks, Held, Load, Out, PartitionId, Place};

type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Debug, Default)]
struct Key {
    out: usize,
    waiting: VecDeque<Held>,
}

/// How a partition may be used.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Entries are handed out and settled until then; none for a partition without a lease.
    pub(crate) until: Option<Instant>,
    /// Entries are handed out; else only settled.
    pub(crate) is_open: bool,
    out: usize,
}

#[derive(Debug)]
pub(crate) struct Book {
    prefetch: usize,
    is_ordered: bool,
    has_lanes: bool,
    /// By urgency, the most urgent last; without lanes only the first is used.
    ready: [VecDeque<Held>; 4],
    /// Entries that were out when their member died; they go out one at a time.
    suspects: VecDeque<Held>,
    keys: HashMap<u64, Key>,
    out: HashMap<u64, Out>,
    next_token: u64,
    next_seq: u64,
    waiting: usize,
    standings: HashMap<PartitionId, Standing>,
    acks: Acks,
    waker: Option<Waker>,
    ended: bool,
    failure: Option<Error>,
}

impl Book {
    pub(crate) fn new(prefetch: usize, is_ordered: bool, has_lanes: bool) -> Self {
        Self {
            prefetch,
            is_ordered,
            has_lanes,
            ready: Default::default(),
            suspects: VecDeque::new(),
            keys: HashMap::default(),
            out: HashMap::default(),
            next_token: 0,
            next_seq: 0,
            waiting: 0,
            standings: HashMap::default(),
            acks: Acks::default(),
            waker: None,
            ended: false,
            failure: None,
        }
    }

    pub(crate) fn open(&mut self, partition: PartitionId, until: Option<Instant>) {
        self.standings.insert(partition, Standing { until, is_open: true, out: 0 });
    }

    pub(crate) fn renew(&mut self, partition: PartitionId, until: Instant) {
        // What has no end needs no renewal.
        if let Some(known) = self.standings.get_mut(&partition).and_then(|s| s.until.as_mut()) {
            *known = until;
        }
    }

    /// Hands nothing more of a partition out.
    pub(crate) fn shut(&mut self, partition: PartitionId) {
        if let Some(standing) = self.standings.get_mut(&partition) {
            standing.is_open = false;
        }
    }

    pub(crate) fn out_of(&self, partition: PartitionId) -> usize {
        self.standings.get(&partition).map_or(0, |standing| standing.out)
    }

    /// Forgets a partition; what was read of it and is not out is returned, with how often it had been
    /// delivered before.
    pub(crate) fn forget(&mut self, partition: PartitionId) -> Vec<(Place, u32)> {
        self.standings.remove(&partition);
        let mut places = Vec::new();
        let mut keep = |held: &Held| {
            let is_gone = held.place.partition == partition;
            if is_gone {
                places.push((held.place, held.redeliveries));
            }
            !is_gone
        };
        self.ready.iter_mut().for_each(|ready| ready.retain(&mut keep));
        self.suspects.retain(&mut keep);
        for key in self.keys.values_mut() {
            let before = key.waiting.len();
            key.waiting.retain(&mut keep);
            self.waiting -= before - key.waiting.len();
        }
        self.acks.places.retain(|place| place.partition != partition);
        self.acks.noted.retain(|place| place.partition != partition);
        places
    }

    /// The places of a partition that are known here: read and not acknowledged on the server.
    pub(crate) fn known_of(&self, partition: PartitionId) -> Vec<Place> {
        let ready = self.ready.iter().flatten().chain(&self.suspects).map(|held| held.place);
        let waiting = self.keys.values().flat_map(|key| &key.waiting).map(|held| held.place);
        let out = self.out.values().map(|out| out.place);
        let all = ready.chain(waiting).chain(out).chain(self.acks.places.iter().copied());
        all.filter(|place| place.partition == partition).collect()
    }

    pub(crate) fn next_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// Adds an entry that was read.
    pub(crate) fn add(&mut self, held: Held) {
        // Its partition may have been lost since it was read.
        if !self.standings.contains_key(&held.place.partition) {
            return;
        }
        let urgency = self.urgency(&held.event);
        self.ready[urgency].push_back(held);
    }

    /// Adds an entry that was with a member that died.
    pub(crate) fn add_suspect(&mut self, held: Held) {
        self.suspects.push_back(held);
    }

    /// The first suspect, when none is out or about to go out: it may go alone.
    pub(crate) fn next_suspect(&mut self) -> Option<Held> {
        if self.suspects.is_empty() {
            return None;
        }
        let mut ready = self.ready.iter().flatten();
        let mut waiting = self.keys.values().flat_map(|key| &key.waiting);
        let is_one_out = self.out.values().any(|out| out.is_suspect)
            || ready.any(|held| held.is_suspect)
            || waiting.any(|held| held.is_suspect);
        if is_one_out { None } else { self.suspects.pop_front() }
    }

    /// A suspect that may go out after all, before everything else.
    pub(crate) fn admit(&mut self, held: Held) {
        let urgency = self.urgency(&held.event);
        self.ready[urgency].push_front(held);
    }

    /// A suspect that could not be admitted.
    pub(crate) fn put_back(&mut self, held: Held) {
        self.suspects.push_front(held);
    }

    pub(crate) fn has_suspects_of(&self, partition: PartitionId) -> bool {
        self.suspects.iter().any(|held| held.place.partition == partition)
    }

    fn urgency(&self, event: &Event) -> usize {
        if self.has_lanes { event.attributes().priority() as usize } else { 0 }
    }

    fn lane_of(&self, held: &Held) -> Option<u64> {
        // What is no event has no key, and what comes again out of turn has given its order up.
        if !self.is_ordered || held.defect.is_some() {
            return None;
        }
        let attributes = held.event.attributes();
        if self.has_lanes { attributes.lane_in_priority() } else { attributes.lane() }
    }

    /// Hands out up to `max` entries.
    pub(crate) fn take(&mut self, max: usize, hand_out: &mut dyn FnMut(u64, Held)) -> usize {
        let wanted = max.min(self.prefetch.saturating_sub(self.out.len()));
        let now = Instant::now();
        let mut taken = 0;
        let mut kept: Vec<(usize, Held)> = Vec::new();
        while taken < wanted {
            let found = (0..4).rev().find_map(|at| Some((at, self.ready[at].pop_front()?)));
            let Some((at, held)) = found else { break };
            if !self.may_go(held.place.partition, now) {
                kept.push((at, held));
                continue;
            }
            let Some((token, held)) = self.claim(held) else { continue };
            hand_out(token, held);
            taken += 1;
        }
        while let Some((at, held)) = kept.pop() {
            self.ready[at].push_front(held);
        }
        taken
    }

    fn may_go(&self, partition: PartitionId, now: Instant) -> bool {
        let standing = self.standings.get(&partition);
        standing.is_some_and(|s| s.is_open && s.until.is_none_or(|until| now < until))
    }

    /// Marks an entry as out, or lets it wait at its key.
    ///
    /// At most a quarter of the prefetch is out of one key, so that a key that stands still leaves
    /// room for others.
    fn claim(&mut self, held: Held) -> Option<(u64, Held)> {
        let lane = self.lane_of(&held);
        if let Some(lane) = lane {
            let key = self.keys.entry(lane).or_default();
            if !key.waiting.is_empty() || key.out >= (self.prefetch / 4).max(1) {
                insert_in_order(&mut key.waiting, held);
                self.waiting += 1;
                return None;
            }
            key.out += 1;
        }
        if let Some(standing) = self.standings.get_mut(&held.place.partition) {
            standing.out += 1;
        }
        let token = self.next_token;
        self.next_token += 1;
        let out = Out {
            place: held.place,
            seq: held.seq,
            redeliveries: held.redeliveries,
            is_noted: held.is_noted,
            defect: held.defect.as_ref().map(Error::duplicate),
            is_suspect: held.is_suspect,
            lane,
        };
        self.out.insert(token, out);
        Some((token, held))
    }

    /// What is known of an entry that is out.
    pub(crate) fn peek(&self, token: u64) -> Option<&Out> {
        self.out.get(&token)
    }

    /// Whether an entry that is out may still be settled: its partition is this member's.
    pub(crate) fn is_owned(&self, token: u64) -> bool {
        self.owned_until(token).is_some()
    }

    /// Until when that is so without another renewal, if it has an end; `None` when it is not.
    pub(crate) fn owned_until(&self, token: u64) -> Option<Option<Instant>> {
        let out = self.out.get(&token)?;
        let until = self.standings.get(&out.place.partition)?.until;
        until.is_none_or(|until| Instant::now() < until).then_some(until)
    }

    /// Ends a delivery that is acknowledged; the server is told later.
    pub(crate) fn ack(&mut self, token: u64) {
        let Some(out) = self.finish(token, None) else { return };
        self.acks.places.push(out.place);
        if out.is_noted {
            self.acks.noted.push(out.place);
        }
    }

    /// Ends a delivery; with `back`, its entry returns to the head of its key.
    pub(crate) fn finish(&mut self, token: u64, back: Option<Held>) -> Option<Out> {
        let out = self.out.remove(&token)?;
        if let Some(standing) = self.standings.get_mut(&out.place.partition) {
            standing.out -= 1;
        }
        // What comes back from a partition that is another's by now is the other's.
        let back = back.filter(|held| self.standings.contains_key(&held.place.partition));
        match (out.lane, back) {
            (Some(lane), back) => self.finish_key(lane, back),
            (None, Some(held)) => {
                let urgency = self.urgency(&held.event);
                self.ready[urgency].push_front(held);
            }
            (None, None) => {}
        }
        Some(out)
    }

    fn finish_key(&mut self, lane: u64, back: Option<Held>) {
        let Some(key) = self.keys.get_mut(&lane) else { return };
        key.out -= 1;
        if let Some(held) = back {
            insert_in_order(&mut key.waiting, held);
            self.waiting += 1;
        }
        if key.out > 0 {
            return;
        }
        if let Some(mut key) = self.keys.remove(&lane) {
            self.waiting -= key.waiting.len();
            while let Some(held) = key.waiting.pop_back() {
                let urgency = self.urgency(&held.event);
                self.ready[urgency].push_front(held);
            }
        }
    }

    pub(crate) fn load(&self) -> Load {
        let ready = self.ready.iter().map(VecDeque::len).sum::<usize>() + self.suspects.len();
        Load { out: self.out.len(), ready, waiting: self.waiting }
    }

    pub(crate) fn take_acks(&mut self) -> Acks {
        std::mem::take(&mut self.acks)
    }

    /// Acknowledgements that did not reach the server.
    pub(crate) fn return_acks(&mut self, acks: Acks) {
        self.acks.places.extend(acks.places);
        self.acks.noted.extend(acks.noted);
    }

    pub(crate) fn ack_count(&self) -> usize {
        self.acks.places.len()
    }

    pub(crate) fn has_acks_of(&self, partition: PartitionId) -> bool {
        self.acks.places.iter().any(|place| place.partition == partition)
    }

    pub(crate) fn sleep(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    /// Whom to wake, once, because there is something.
    pub(crate) fn waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    pub(crate) fn end(&mut self, failure: Option<Error>) {
        self.ended = true;
        self.failure = failure;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    pub(crate) fn prefetch(&self) -> usize {
        self.prefetch
    }
}

/// Not a binary search: an entry that has come due stands behind later ones.
fn insert_in_order(waiting: &mut VecDeque<Held>, held: Held) {
    let later = waiting.iter().position(|known| known.seq > held.seq);
    waiting.insert(later.unwrap_or(waiting.len()), held);
}
