//! What a member has read and not handed out: in the order of reading, or the urgent first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Instant;

use trunkline_core::{Error, Event};

use crate::codec::Extras;

/// One event on its way to a handler.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its place in the order of reading, and its number as a delivery.
    pub(crate) seq: u64,
    /// The assignment that it belongs to.
    pub(crate) part: u32,
    pub(crate) offset: i64,
    /// When the log took it, in milliseconds since 1970.
    pub(crate) at: i64,
    /// The more urgent, the lower; 0 without lanes.
    pub(crate) rank: u8,
    pub(crate) event: Event,
    pub(crate) attempts: u32,
    pub(crate) redeliveries: u32,
    pub(crate) defect: Option<Error>,
    pub(crate) extras: Option<Box<Extras>>,
}

/// Ranks are priorities, of which there are four.
const RANKS: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    fresh: [VecDeque<Entry>; RANKS],
    /// What came back unsettled, to its old place.
    returned: BTreeMap<(u8, u64), Entry>,
    held: BinaryHeap<Reverse<Held>>,
    len: usize,
}

/// An event that is not due yet.
#[derive(Debug)]
struct Held {
    due: Instant,
    entry: Entry,
}

impl Queue {
    pub(crate) fn push(&mut self, entry: Entry) {
        let rank = usize::from(entry.rank).min(RANKS - 1);
        self.len += 1;
        self.fresh[rank].push_back(entry);
    }

    /// Puts an event back to its place, before everything that was read after it.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.len += 1;
        self.returned.insert((entry.rank, entry.seq), entry);
    }

    pub(crate) fn hold(&mut self, entry: Entry, due: Instant) {
        self.held.push(Reverse(Held { due, entry }));
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let fresh = self.fresh.iter().position(|lane| !lane.is_empty());
        let first = fresh.and_then(|rank| self.fresh[rank].front()).map(|e| (e.rank, e.seq));
        let back = self.returned.first_key_value().map(|(place, _)| *place);
        let entry = match (first, back) {
            (Some(first), Some(back)) if first < back => self.fresh[fresh?].pop_front(),
            (Some(_), None) => self.fresh[fresh?].pop_front(),
            (_, Some(_)) => self.returned.pop_first().map(|(_, entry)| entry),
            (None, None) => None,
        };
        self.len -= usize::from(entry.is_some());
        entry
    }

    /// How many may be handed out.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes what is due by now ready; says whether anything was.
    pub(crate) fn release_due(&mut self, now: Instant) -> bool {
        let before = self.len;
        while self.held.peek().is_some_and(|Reverse(held)| held.due <= now) {
            if let Some(Reverse(held)) = self.held.pop() {
                self.push(held.entry);
            }
        }
        self.len > before
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse(held)| held.due)
    }

    /// How many of an assignment wait until they are due.
    pub(crate) fn held_of(&self, part: u32) -> usize {
        self.held.iter().filter(|Reverse(held)| held.entry.part == part).count()
    }

    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Forgets what is left of an assignment.
    pub(crate) fn forget(&mut self, part: u32) {
        for lane in &mut self.fresh {
            lane.retain(|entry| entry.part != part);
        }
        self.returned.retain(|_, entry| entry.part != part);
        self.held.retain(|Reverse(held)| held.entry.part != part);
        self.len = self.fresh.iter().map(VecDeque::len).sum::<usize>() + self.returned.len();
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.entry.seq).cmp(&(other.due, other.entry.seq))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trunkline_core::{Data, Topic};

    use super::*;

    fn entry(seq: u64, rank: u8) -> Entry {
        let event = Event::from_data("T", Topic::from_static("a"), Data::none());
        Entry {
            seq,
            part: u32::try_from(seq % 2).unwrap(),
            offset: 0,
            at: 0,
            rank,
            event: event.build().unwrap(),
            attempts: 0,
            redeliveries: 0,
            defect: None,
            extras: None,
        }
    }

    fn drain(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|entry| entry.seq).collect()
    }

    #[test]
    fn what_comes_back_goes_before_what_was_read_after_it() {
        let mut queue = Queue::default();
        (0..6).for_each(|seq| queue.push(entry(seq, 0)));
        let taken: Vec<Entry> = (0..4).filter_map(|_| queue.pop()).collect();
        taken.into_iter().for_each(|entry| queue.put_back(entry));
        assert_eq!(queue.len(), 6);
        assert_eq!(drain(&mut queue), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_urgent_overtake_and_keep_their_order() {
        let mut queue = Queue::default();
        for (seq, rank) in [(0, 3), (1, 0), (2, 3), (3, 0), (4, 1)] {
            queue.push(entry(seq, rank));
        }
        assert_eq!(drain(&mut queue), [1, 3, 4, 0, 2]);
    }

    #[test]
    fn what_is_held_comes_when_it_is_due() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for (seq, millis) in [(0, 30), (1, 10), (2, 20)] {
            queue.hold(entry(seq, 0), now + Duration::from_millis(millis));
        }
        assert!(!queue.release_due(now) && queue.len() == 0);
        assert!(queue.release_due(now + Duration::from_millis(25)));
        assert_eq!(drain(&mut queue), [1, 2]);
        assert_eq!(queue.next_due(), Some(now + Duration::from_millis(30)));
    }

    #[test]
    fn an_assignment_that_is_gone_leaves_nothing() {
        let mut queue = Queue::default();
        (0..6).for_each(|seq| queue.push(entry(seq, 0)));
        queue.forget(1);
        assert_eq!((queue.len(), drain(&mut queue)), (3, vec![0, 2, 4]));
    }
}
