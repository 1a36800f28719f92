//! The newest events, kept for groups that are made later.

use std::collections::VecDeque;

use jiff::Timestamp;
use trunkline_core::{Event, Pattern, StartAt};

pub(crate) struct History {
    capacity: usize,
    events: VecDeque<(Timestamp, Event)>,
}

impl History {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, events: VecDeque::new() }
    }

    pub(crate) fn keep(&mut self, event: &Event) {
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back((Timestamp::now(), event.clone()));
    }

    /// The events of `topics` from `start` on, oldest first.
    pub(crate) fn from(&self, start: StartAt, topics: &[Pattern]) -> impl Iterator<Item = &Event> {
        let since = match start {
            StartAt::Beginning => Some(Timestamp::MIN),
            StartAt::Time(time) => Some(time),
            _ => None,
        };
        let kept = self.events.iter();
        let wanted = kept.filter(move |(at, event)| {
            since.is_some_and(|since| *at >= since)
                && topics.iter().any(|pattern| pattern.matches(event.topic()))
        });
        wanted.map(|(_, event)| event)
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|(_, event)| event)
    }
}
