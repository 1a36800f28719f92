//! The log of dead letters.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use smol_str::ToSmolStr;
use trunkline_core::{
    DeadLetter, DeadLetterFilter, DeadLetterId, Event, Group, Result, StoredDeadLetter,
};

use crate::error::MemoryError;
use crate::queue::Queue;

pub(crate) struct Letters {
    capacity: usize,
    next: u64,
    kept: BTreeMap<u64, Letter>,
}

pub(crate) struct Letter {
    pub(crate) group: Option<Group>,
    /// The queue of a broadcast subscriber, which has no name to find it by.
    pub(crate) queue: Weak<Queue>,
    pub(crate) event: Event,
    /// Its place in the history, where one is kept.
    pub(crate) place: Option<u64>,
    letter: DeadLetter,
}

impl Letters {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, next: 0, kept: BTreeMap::new() }
    }

    pub(crate) fn keep(
        &mut self,
        queue: &Arc<Queue>,
        event: &Event,
        place: Option<u64>,
        letter: DeadLetter,
    ) -> Result<()> {
        if self.kept.len() >= self.capacity {
            return Err(MemoryError::LettersFull(self.capacity).into());
        }
        let kept = Letter {
            group: queue.group.clone(),
            queue: Arc::downgrade(queue),
            event: event.clone(),
            place,
            letter,
        };
        self.kept.insert(self.next, kept);
        self.next += 1;
        Ok(())
    }

    pub(crate) fn read(&self, filter: &DeadLetterFilter) -> Vec<StoredDeadLetter> {
        let wanted = self.kept.iter().filter(|(_, kept)| {
            filter.group.as_ref().is_none_or(|group| kept.group.as_ref() == Some(group))
                && filter.topic.as_ref().is_none_or(|topic| kept.event.topic() == topic)
        });
        let stored = wanted.map(|(number, kept)| StoredDeadLetter {
            id: DeadLetterId(number.to_smolstr()),
            group: kept.group.clone(),
            event: kept.event.clone(),
            letter: kept.letter.clone(),
        });
        stored.take(filter.limit.unwrap_or(usize::MAX)).collect()
    }

    pub(crate) fn get(&self, id: &DeadLetterId) -> Result<&Letter> {
        let number = id.0.parse::<u64>().ok();
        let kept = number.and_then(|number| self.kept.get(&number));
        kept.ok_or_else(|| MemoryError::LetterGone.into())
    }

    pub(crate) fn remove(&mut self, id: &DeadLetterId) -> Option<Letter> {
        self.kept.remove(&id.0.parse::<u64>().ok()?)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}
