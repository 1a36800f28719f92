//! What is known about one event of a run, and the order that it belongs to.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::CONSUMERS;
use super::kinds::Kind;

/// What is known about one event.
#[derive(Debug)]
pub(super) struct Record {
    /// The line that the event came from.
    pub(super) line: u64,
    /// The type, topic and route that the report counts it under.
    pub(super) kind: Arc<Kind>,
    /// Its place in the order of its key; an event without a key has none.
    pub(super) place: Option<Place>,
    state: Mutex<State>,
}

/// What has happened to the event so far.
#[derive(Debug, Default)]
pub(super) struct State {
    /// When the publish call began.
    pub(super) started: Option<Instant>,
    /// When the first handler of all was entered.
    pub(super) entered: Option<Instant>,
    /// Whether the publish returned Ok.
    pub(super) accepted: bool,
    /// Whether the event was found in its stream of the store.
    pub(super) stored: bool,
    /// Whether the event came out of a replay of the store.
    pub(super) replayed: bool,
    /// What each group, and the broadcast subscriber, has done with it.
    pub(super) standings: [Standing; CONSUMERS],
}

/// What one group has done with an event.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    /// A handler was entered.
    pub(super) entered: bool,
    /// A handler finished.
    pub(super) handled: bool,
    /// The event is among the dead letters.
    pub(super) dead: bool,
}

impl Standing {
    /// Whether nothing more is to come for the event from this group.
    pub(super) fn is_settled(self) -> bool {
        self.handled || self.dead
    }
}

impl Record {
    pub(super) fn new(line: u64, kind: Arc<Kind>, place: Option<Place>) -> Self {
        Self { line, kind, place, state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the publish call begins now; a second call for the same event is no new beginning.
    pub(super) fn start(&self) {
        self.state().started.get_or_insert_with(Instant::now);
    }
}

impl State {
    /// From the publish call to the first handler entry.
    pub(super) fn latency(&self) -> Option<Duration> {
        Some(self.entered?.saturating_duration_since(self.started?))
    }
}

/// The events of one topic, key, lane and route, whose order is promised.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// Turns given out; they begin at 1.
    turns: AtomicU64,
    seats: [Seat; CONSUMERS],
}

/// Where one group stands in a sequence.
#[derive(Debug, Default)]
struct Seat {
    /// The latest turn that was begun.
    latest: AtomicU64,
    /// First handlings that run now.
    running: AtomicUsize,
}

/// The place of an event in its sequence.
#[derive(Debug)]
pub(super) struct Place {
    sequence: Arc<Sequence>,
    turn: u64,
}

impl Place {
    /// The next place in a sequence.
    pub(super) fn next(sequence: &Arc<Sequence>) -> Self {
        let turn = sequence.turns.fetch_add(1, Ordering::Relaxed) + 1;
        Self { sequence: Arc::clone(sequence), turn }
    }

    /// Begins the first handling; whether it is in order: after all earlier ones that were handled at
    /// all, and beside none.
    pub(super) fn enter(&self, consumer: usize) -> bool {
        let seat = &self.sequence.seats[consumer];
        let later_was_begun = seat.latest.fetch_max(self.turn, Ordering::AcqRel) > self.turn;
        let beside_another = seat.running.fetch_add(1, Ordering::AcqRel) > 0;
        !later_was_begun && !beside_another
    }

    /// Ends the first handling.
    pub(super) fn leave(&self, consumer: usize) {
        self.sequence.seats[consumer].running.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_order_after_the_earlier_ones_and_beside_none() {
        let sequence = Arc::new(Sequence::default());
        let [first, second, third, fourth] = [(); 4].map(|()| Place::next(&sequence));
        assert!(first.enter(0));
        first.leave(0);
        // A gap is no disorder: what was refused is never handled.
        assert!(third.enter(0));
        assert!(!fourth.enter(0), "beside the third");
        third.leave(0);
        fourth.leave(0);
        assert!(!second.enter(0), "after the fourth");
        assert!(second.enter(1), "another group has an order of its own");
    }
}
