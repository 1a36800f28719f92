//! What of one partition is settled: a watermark, and what is completed above it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::note::Note;

/// Follows the offsets of one assignment of one partition.
///
/// Offsets have gaps, where a log is compacted or transactions were written: nothing here waits for
/// "the next" offset, only for those that were read.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// What was read and is not below the watermark, by offset.
    slots: VecDeque<Slot>,
    /// The offset after the last one read.
    next: i64,
    /// What earlier owners completed above the watermark, not read yet.
    skips: VecDeque<Range<i64>>,
    /// Attempts written to events that are not settled.
    attempts: BTreeMap<i64, u32>,
    /// How many slots are not completed.
    open: usize,
    /// The highest offset that was completed.
    highest: i64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    offset: i64,
    is_done: bool,
}

/// What is to be done with a record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is to be delivered, with so many attempts written to it.
    Fresh(u32),
    /// It was read before, or completed by an earlier owner.
    Known,
}

impl Track {
    /// Begins at an offset, with what earlier owners left to know.
    pub(crate) fn new(start: i64, note: Note) -> Self {
        Self {
            next: start,
            skips: note.done.into(),
            attempts: note.attempts,
            highest: start - 1,
            ..Self::default()
        }
    }

    /// Begins where librdkafka finds the group, which is not known here.
    pub(crate) fn unknown() -> Self {
        Self::new(-1, Note::default())
    }

    pub(crate) fn arrive(&mut self, offset: i64) -> Arrival {
        if offset < self.next {
            return Arrival::Known;
        }
        self.next = offset + 1;
        while self.skips.front().is_some_and(|range| range.end <= offset) {
            self.skips.pop_front();
        }
        let is_done = self.skips.front().is_some_and(|range| range.contains(&offset));
        if is_done {
            // With nothing open before it, the watermark passes it at once.
            if !self.slots.is_empty() {
                self.slots.push_back(Slot { offset, is_done });
            }
            return Arrival::Known;
        }
        self.slots.push_back(Slot { offset, is_done });
        self.open += 1;
        Arrival::Fresh(self.attempts.get(&offset).copied().unwrap_or(0))
    }

    /// Notes that an event is settled.
    pub(crate) fn complete(&mut self, offset: i64) {
        let Ok(at) = self.slots.binary_search_by_key(&offset, |slot| slot.offset) else { return };
        if std::mem::replace(&mut self.slots[at].is_done, true) {
            return;
        }
        self.open -= 1;
        self.highest = self.highest.max(offset);
        self.attempts.remove(&offset);
        while self.slots.front().is_some_and(|slot| slot.is_done) {
            self.slots.pop_front();
        }
    }

    /// Writes attempts to an event that stays.
    pub(crate) fn set_attempts(&mut self, offset: i64, attempts: u32) {
        self.attempts.insert(offset, attempts);
    }

    /// The first offset that is not settled.
    pub(crate) fn mark(&self) -> i64 {
        self.slots.front().map_or(self.next, |slot| slot.offset)
    }

    /// The offset after the last one read.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    pub(crate) fn highest(&self) -> i64 {
        self.highest
    }

    /// How many offsets above the watermark are completed.
    pub(crate) fn done_above(&self) -> u64 {
        let later: i64 =
            self.skips.iter().map(|range| range.end - range.start.max(self.next)).sum();
        let read = self.slots.len() - self.open;
        read as u64 + u64::try_from(later).unwrap_or(0)
    }

    /// What the next owner has to know beside the watermark.
    pub(crate) fn note(&self, out: u64) -> Note {
        let mut done: Vec<Range<i64>> = Vec::new();
        let mut last_open = None;
        for slot in &self.slots {
            match (slot.is_done, done.last_mut()) {
                // A gap between two that are done is no event: one range holds both.
                (true, Some(range)) if last_open < Some(range.start) => {
                    range.end = slot.offset + 1;
                }
                (true, _) => done.push(slot.offset..slot.offset + 1),
                (false, _) => last_open = Some(slot.offset),
            }
        }
        let later = self.skips.iter().map(|range| range.start.max(self.next)..range.end);
        done.extend(later.filter(|range| !range.is_empty()));
        Note { done, attempts: self.attempts.clone(), out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(track: &mut Track, offsets: impl IntoIterator<Item = i64>) -> Vec<i64> {
        offsets.into_iter().filter(|at| track.arrive(*at) == Arrival::Fresh(0)).collect()
    }

    #[test]
    fn the_watermark_is_the_first_event_that_is_not_settled() {
        let mut track = Track::new(10, Note::default());
        assert_eq!(track.mark(), 10);
        read(&mut track, 10..15);
        track.complete(12);
        track.complete(13);
        assert_eq!((track.mark(), track.done_above()), (10, 2));
        track.complete(10);
        assert_eq!(track.mark(), 11);
        track.complete(11);
        assert_eq!((track.mark(), track.done_above()), (14, 0));
        track.complete(14);
        track.complete(14);
        assert_eq!(track.mark(), 15);
    }

    #[test]
    fn gaps_in_the_log_hold_nothing_up() {
        let mut track = Track::new(0, Note::default());
        read(&mut track, [3, 7, 20]);
        track.complete(3);
        track.complete(7);
        assert_eq!(track.mark(), 20);
        track.complete(20);
        assert_eq!(track.mark(), 21);
    }

    #[test]
    fn a_record_that_is_read_again_is_not_delivered_again() {
        let mut track = Track::new(0, Note::default());
        assert_eq!(read(&mut track, 0..3), [0, 1, 2]);
        assert_eq!(read(&mut track, 0..4), [3]);
    }

    #[test]
    fn the_next_owner_delivers_just_what_was_not_completed() {
        let mut first = Track::new(0, Note::default());
        read(&mut first, 0..10);
        [1, 2, 5, 9].into_iter().for_each(|at| first.complete(at));
        first.set_attempts(0, 2);
        let note = first.note(0);
        assert_eq!(note.done, [1..3, 5..6, 9..10]);
        let mut second = Track::new(first.mark(), note);
        assert_eq!(second.done_above(), 4);
        assert_eq!(second.arrive(0), Arrival::Fresh(2));
        assert_eq!(read(&mut second, 1..12), [3, 4, 6, 7, 8, 10, 11]);
        // What it has not completed either is told to the third.
        second.complete(3);
        assert_eq!(second.note(0).done, [1..4, 5..6, 9..10]);
        [0, 4, 6, 7, 8].into_iter().for_each(|at| second.complete(at));
        assert_eq!(second.mark(), 10);
    }

    #[test]
    fn what_is_not_read_again_yet_stays_known() {
        let note = Note { done: vec![3..5, 7..8], ..Note::default() };
        let mut track = Track::new(0, note);
        read(&mut track, 0..1);
        assert_eq!(track.note(0).done, [3..5, 7..8]);
        track.complete(0);
        assert_eq!((track.mark(), track.note(0).done), (1, vec![3..5, 7..8]));
    }
}
