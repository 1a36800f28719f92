//! The newest events, kept for groups that are made later.

use std::collections::VecDeque;

use jiff::Timestamp;
use tokio::time::Instant;
use trunkline_core::{Event, EventId, Pattern, StartAt};

pub(crate) struct History {
    capacity: usize,
    events: VecDeque<Kept>,
}

struct Kept {
    at: Timestamp,
    /// Set when the publish was delayed.
    due: Option<Instant>,
    event: Event,
}

impl Kept {
    fn due_after(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|due| *due > now)
    }
}

impl History {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, events: VecDeque::new() }
    }

    pub(crate) fn keep(&mut self, event: &Event, due: Option<Instant>) {
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(Kept { at: Timestamp::now(), due, event: event.clone() });
    }

    /// Forgets a delayed event that is not due yet.
    pub(crate) fn cancel(&mut self, id: &EventId) -> bool {
        let now = Instant::now();
        let is_cancelled = |kept: &Kept| kept.event.id() == id && kept.due_after(now).is_some();
        let before = self.events.len();
        self.events.retain(|kept| !is_cancelled(kept));
        self.events.len() < before
    }

    /// The events of `topics` from `start` on, oldest first, with the time that delayed ones still
    /// wait for.
    pub(crate) fn from(
        &self,
        start: StartAt,
        topics: &[Pattern],
    ) -> impl Iterator<Item = (&Event, Option<Instant>)> {
        let now = Instant::now();
        let since = match start {
            StartAt::Beginning => Some(Timestamp::MIN),
            StartAt::Time(time) => Some(time),
            _ => None,
        };
        let kept = self.events.iter();
        let wanted = kept.filter(move |kept| {
            since.is_some_and(|since| kept.at >= since)
                && topics.iter().any(|pattern| pattern.matches(kept.event.topic()))
        });
        wanted.map(move |kept| (&kept.event, kept.due_after(now)))
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|kept| &kept.event)
    }
}
