//! What of one partition is settled: a watermark, and what is completed above it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::note::Note;

/// Follows the offsets of one assignment of one partition.
///
/// Offsets have gaps, where a log is compacted or transactions were written: nothing here waits for
/// "the next" offset, only for those that were read. What is kept grows with the events that are not
/// settled, and not with those that are: one that is stuck for long costs no memory.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// What was read and is not settled, ascending.
    open: VecDeque<i64>,
    /// What is completed above the first of these, by the first offset: between two open ones there is
    /// one span at most.
    done: BTreeMap<i64, Span>,
    /// The offset after the last one read.
    next: i64,
    /// What earlier owners completed above the watermark, not read yet.
    skips: VecDeque<Range<i64>>,
    /// Attempts written to events that are not settled.
    attempts: BTreeMap<i64, u32>,
    /// The highest offset that was completed.
    highest: i64,
}

/// Completed events that follow each other; gaps between them are no events.
#[derive(Debug, Clone, Copy)]
struct Span {
    end: i64,
    events: u64,
}

/// What is to be done with a record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is to be delivered, with so many attempts written to it.
    Fresh(u32),
    /// It was completed by an earlier owner.
    Known,
    /// One at this offset was read before: the log has gone back. Its topic was made again, or a new
    /// leader had less of it; what is there now is not what was read.
    Back,
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
            return Arrival::Back;
        }
        self.next = offset + 1;
        while self.skips.front().is_some_and(|range| range.end <= offset) {
            self.skips.pop_front();
        }
        if self.skips.front().is_some_and(|range| range.contains(&offset)) {
            // With nothing open before it, the watermark passes it at once.
            self.join(offset, self.open.len());
            return Arrival::Known;
        }
        self.open.push_back(offset);
        Arrival::Fresh(self.attempts.get(&offset).copied().unwrap_or(0))
    }

    /// Notes that an event is settled.
    pub(crate) fn complete(&mut self, offset: i64) {
        let Ok(at) = self.open.binary_search(&offset) else { return };
        self.open.remove(at);
        self.highest = self.highest.max(offset);
        self.attempts.remove(&offset);
        self.join(offset, at);
    }

    /// Counts an offset as done, `at` being how many open ones are below it.
    fn join(&mut self, offset: i64, at: usize) {
        let Some(below) = at.checked_sub(1).map(|below| self.open[below]) else {
            let mark = self.mark();
            while let Some(first) = self.done.first_entry().filter(|first| *first.key() < mark) {
                first.remove();
            }
            return;
        };
        let mut start = offset;
        let mut span = Span { end: offset + 1, events: 1 };
        let before = self.done.range(below..offset).next_back();
        if let Some((first, known)) = before.map(|(first, known)| (*first, *known)) {
            self.done.remove(&first);
            (start, span.events) = (first, span.events + known.events);
        }
        let above = self.open.get(at).copied().unwrap_or(i64::MAX);
        let after = self.done.range(offset..above).next();
        if let Some((first, known)) = after.map(|(first, known)| (*first, *known)) {
            self.done.remove(&first);
            span = Span { end: known.end, events: span.events + known.events };
        }
        self.done.insert(start, span);
    }

    /// Writes attempts to an event that stays.
    pub(crate) fn set_attempts(&mut self, offset: i64, attempts: u32) {
        self.attempts.insert(offset, attempts);
    }

    /// The first offset that is not settled.
    pub(crate) fn mark(&self) -> i64 {
        self.open.front().copied().unwrap_or(self.next)
    }

    /// The offset after the last one read.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    pub(crate) fn highest(&self) -> i64 {
        self.highest
    }

    /// How many events above the watermark are completed.
    pub(crate) fn done_above(&self) -> u64 {
        let later: i64 =
            self.skips.iter().map(|range| range.end - range.start.max(self.next)).sum();
        let read: u64 = self.done.values().map(|span| span.events).sum();
        read + u64::try_from(later).unwrap_or(0)
    }

    /// What the next owner has to know beside the watermark.
    pub(crate) fn note(&self, out: u64) -> Note {
        let mut done: Vec<Range<i64>> =
            self.done.iter().map(|(first, span)| *first..span.end).collect();
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
    fn a_log_that_goes_back_is_noticed() {
        let mut track = Track::new(0, Note::default());
        assert_eq!(read(&mut track, 0..3), [0, 1, 2]);
        assert_eq!(track.arrive(2), Arrival::Back);
        assert_eq!(track.arrive(0), Arrival::Back);
        assert_eq!(track.arrive(3), Arrival::Fresh(0));
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

    #[test]
    fn an_event_that_is_stuck_costs_no_memory_for_what_flows_past_it() {
        let mut track = Track::new(0, Note::default());
        read(&mut track, [0]);
        for at in (2..200_000).step_by(2) {
            read(&mut track, [at]);
            track.complete(at);
        }
        assert_eq!((track.open.len(), track.done.len()), (1, 1));
        assert_eq!((track.mark(), track.done_above()), (0, 99_999));
        track.complete(0);
        assert_eq!((track.mark(), track.done_above(), track.done.len()), (199_999, 0, 0));
    }

    /// Against the plain account of the same: every offset that was read, and whether it is done.
    #[test]
    fn whatever_order_events_are_completed_in_the_account_is_right() {
        let mut seed = 7_u64;
        let mut random = |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let (mut track, mut plain) = (Track::new(0, Note::default()), BTreeMap::<i64, bool>::new());
        for _ in 0..20_000 {
            let open: Vec<i64> =
                plain.iter().filter(|(_, done)| !**done).map(|(at, _)| *at).collect();
            if open.len() < 30 && random(2) == 0 {
                let at = track.next() + i64::try_from(random(3)).unwrap();
                assert_eq!(track.arrive(at), Arrival::Fresh(0));
                plain.insert(at, false);
            } else if !open.is_empty() {
                let at = open[random(open.len())];
                track.complete(at);
                plain.insert(at, true);
            }
            let mark = plain.iter().find(|(_, done)| !**done).map_or(track.next(), |(at, _)| *at);
            plain.retain(|at, _| *at >= mark);
            assert_eq!(track.mark(), mark);
            let done: Vec<i64> =
                plain.iter().filter(|(_, done)| **done).map(|(at, _)| *at).collect();
            assert_eq!(track.done_above(), done.len() as u64);
            // The next owner delivers what is open, and nothing else of what was read.
            let note = track.note(0);
            assert!(note.done.windows(2).all(|pair| pair[0].end <= pair[1].start));
            let mut heir = Track::new(mark, note);
            let again = read(&mut heir, plain.keys().copied());
            assert!(again.iter().all(|at| !plain[at]) && again.len() + done.len() == plain.len());
        }
    }
}
