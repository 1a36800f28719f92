//! The newest events, kept for groups that are made later.

use std::collections::VecDeque;

use jiff::Timestamp;
use tokio::time::Instant;
use trunkline_core::{Event, EventId, Pattern, Result, StartAt};

use crate::broker::NAME;

pub(crate) struct History {
    capacity: usize,
    events: VecDeque<Kept>,
    next: u64,
}

struct Kept {
    place: u64,
    at: Timestamp,
    /// Set when the publish was delayed.
    due: Option<Instant>,
    event: Event,
}

/// From where on the history is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    Time(Timestamp),
    Place(u64),
}

impl Since {
    /// None for a start that wants no history.
    pub(crate) fn of(start: &StartAt) -> Result<Option<Self>> {
        Ok(match start {
            StartAt::Beginning => Some(Self::Place(0)),
            StartAt::Time(time) => Some(Self::Time(*time)),
            StartAt::Position(position) => {
                Some(Self::Place(position.read(NAME, |place| place.parse().ok())?))
            }
            _ => None,
        })
    }

    fn covers(self, kept: &Kept) -> bool {
        match self {
            Self::Time(time) => kept.at >= time,
            Self::Place(place) => kept.place >= place,
        }
    }
}

impl Kept {
    fn due_after(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|due| *due > now)
    }
}

impl History {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, events: VecDeque::new(), next: 0 }
    }

    /// Keeps an event; returns its place, which no other event has.
    pub(crate) fn keep(&mut self, event: &Event, due: Option<Instant>) -> u64 {
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        let (place, at) = (self.number(), Timestamp::now());
        self.events.push_back(Kept { place, at, due, event: event.clone() });
        place
    }

    /// The place of an event that is not kept.
    pub(crate) fn number(&mut self) -> u64 {
        let place = self.next;
        self.next += 1;
        place
    }

    /// Forgets a delayed event that is not due yet.
    pub(crate) fn cancel(&mut self, id: &EventId) -> bool {
        let now = Instant::now();
        let is_cancelled = |kept: &Kept| kept.event.id() == id && kept.due_after(now).is_some();
        let before = self.events.len();
        self.events.retain(|kept| !is_cancelled(kept));
        self.events.len() < before
    }

    /// The events of `topics` since then, oldest first, with their places and the time that delayed
    /// ones still wait for.
    pub(crate) fn since(
        &self,
        since: Since,
        topics: &[Pattern],
    ) -> impl Iterator<Item = (&Event, u64, Option<Instant>)> {
        let now = Instant::now();
        let kept = self.events.iter();
        let wanted = kept.filter(move |kept| {
            since.covers(kept) && topics.iter().any(|topic| topic.matches(kept.event.topic()))
        });
        wanted.map(move |kept| (&kept.event, kept.place, kept.due_after(now)))
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|kept| &kept.event)
    }
}

#[cfg(test)]
mod tests {
    use trunkline_core::{BrokerPosition, Data, ErrorKind, Topic};

    use super::*;

    fn places_since(history: &History, place: &str) -> Vec<u64> {
        let start = StartAt::Position(BrokerPosition::new(NAME, place));
        let since = Since::of(&start).unwrap().unwrap();
        history.since(since, &[Pattern::all()]).map(|(_, place, _)| place).collect()
    }

    #[test]
    fn a_position_that_has_gone_begins_with_the_oldest_after_it() {
        let mut history = History::new(3);
        let event = Event::from_data("T", Topic::from_static("t"), Data::none()).build().unwrap();
        for _ in 0..5 {
            history.keep(&event, None);
        }
        history.number();
        history.keep(&event, None);
        assert_eq!(places_since(&history, "0"), [3, 4, 6]);
        assert_eq!(places_since(&history, "4"), [4, 6]);
        assert_eq!(places_since(&history, "5"), [6]);
    }

    #[test]
    fn what_is_no_place_is_invalid() {
        for text in ["garbage", "-1", "1.5"] {
            let start = StartAt::Position(BrokerPosition::new(NAME, text));
            assert_eq!(Since::of(&start).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }
}
