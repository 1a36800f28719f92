//! What the store holds: the log, the streams and the indexes, always in step.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use jiff::Timestamp;
use smol_str::SmolStr;
use tokio::time::Instant;
use trunkline_core::{
    AppendConflict, Appended, Direction, Event, ExpectedVersion, Identity, Page, Position, ReadAll,
    ReadStream, Recorded, StreamVersion,
};

use super::indexes::Indexes;

#[derive(Default)]
pub(super) struct State {
    head: u64,
    log: BTreeMap<u64, Entry>,
    streams: HashMap<SmolStr, Stream>,
    indexes: Indexes,
}

struct Entry {
    recorded: Recorded,
    appended: Instant,
}

/// Events leave a stream from its oldest on, so that those kept have the versions up to the last.
#[derive(Default)]
struct Stream {
    version: StreamVersion,
    positions: VecDeque<u64>,
}

impl Stream {
    fn first(&self) -> StreamVersion {
        self.version + 1 - self.positions.len() as u64
    }

    /// The place of `version` among the positions; too large when it is not written yet.
    fn index(&self, version: StreamVersion) -> usize {
        let index = version.saturating_sub(self.first());
        usize::try_from(index).unwrap_or(usize::MAX)
    }
}

impl State {
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn append(
        &mut self,
        stream: &str,
        expected: ExpectedVersion,
        events: &[Event],
    ) -> Result<Vec<Appended>, AppendConflict> {
        let identities: Vec<_> = events.iter().map(|e| e.attributes().identity()).collect();
        let known: Vec<_> = identities.iter().filter_map(|id| self.known(id)).collect();
        if !known.is_empty() && known.len() == events.len() {
            return Ok(known);
        }
        let name = self.name_of(stream);
        if !known.is_empty() {
            let (known, batch) = (known.len(), events.len());
            return Err(AppendConflict::PartlyKnown { known, batch });
        }
        AppendConflict::check_distinct(&identities)?;
        expected.check(self.streams.get(stream).map_or(0, |stream| stream.version))?;
        let recorded_at = Timestamp::now();
        let appended = Instant::now();
        let records = events.iter().zip(identities).map(|(event, identity)| {
            self.record(&name, event.clone(), identity, recorded_at, appended)
        });
        Ok(records.collect())
    }

    fn known(&self, identity: &Identity) -> Option<Appended> {
        let position = self.indexes.position(identity)?;
        let version = self.log.get(&position)?.recorded.version;
        Some(Appended { position: Position::from_raw(position), version, known: true })
    }

    /// The name as the stream itself has it, so that a long one is in memory once.
    fn name_of(&self, stream: &str) -> SmolStr {
        let known = self.streams.get_key_value(stream);
        known.map_or_else(|| SmolStr::new(stream), |(name, _)| name.clone())
    }

    fn record(
        &mut self,
        name: &SmolStr,
        event: Event,
        identity: Identity,
        recorded_at: Timestamp,
        appended: Instant,
    ) -> Appended {
        self.head += 1;
        let stream = self.streams.entry(name.clone()).or_default();
        stream.version += 1;
        stream.positions.push_back(self.head);
        self.indexes.add(self.head, identity, event.attributes());
        let (position, version) = (Position::from_raw(self.head), stream.version);
        let recorded = Recorded { position, stream: name.clone(), version, recorded_at, event };
        self.log.insert(self.head, Entry { recorded, appended });
        Appended { position, version, known: false }
    }

    pub(super) fn read_stream(&self, name: &str, read: &ReadStream) -> Vec<Recorded> {
        let Some(stream) = self.streams.get(name) else { return Vec::new() };
        let length = stream.positions.len();
        let recorded = |position: &u64| Some(self.log.get(position)?.recorded.clone());
        match read.direction {
            Direction::Forward => {
                let start = read.from.map_or(0, |version| stream.index(version)).min(length);
                let positions = stream.positions.range(start..);
                positions.take(read.limit).filter_map(recorded).collect()
            }
            Direction::Backward => {
                let end = match read.from {
                    Some(version) if version < stream.first() => 0,
                    Some(version) => stream.index(version).saturating_add(1).min(length),
                    None => length,
                };
                let positions = stream.positions.range(..end).rev();
                positions.take(read.limit).filter_map(recorded).collect()
            }
        }
    }

    pub(super) fn read_all(&self, read: &ReadAll) -> Page {
        let after = read.after.to_raw();
        match &read.correlation {
            Some(correlation) => {
                let positions = self.indexes.correlated(correlation, after);
                self.page(read, positions.filter_map(|position| self.log.get(&position)))
            }
            None => {
                let range = (Bound::Excluded(after), Bound::Unbounded);
                self.page(read, self.log.range(range).map(|(_, entry)| entry))
            }
        }
    }

    fn page<'a>(&self, read: &ReadAll, entries: impl Iterator<Item = &'a Entry>) -> Page {
        let mut events = Vec::new();
        let mut next = read.after;
        for Entry { recorded, .. } in entries {
            if read.takes(&recorded.stream, recorded.event.attributes()) {
                if events.len() == read.limit {
                    return Page { events, next, caught_up: false };
                }
                events.push(recorded.clone());
            }
            next = recorded.position;
        }
        // Everything up to the head has been looked at, filtered out or taken.
        let next = read.after.max(Position::from_raw(self.head));
        Page { events, next, caught_up: true }
    }

    pub(super) fn truncate(&mut self, name: &str, before: StreamVersion) -> u64 {
        let Some(stream) = self.streams.get_mut(name) else { return 0 };
        let count = stream.index(before).min(stream.positions.len());
        let removed: Vec<_> = stream.positions.drain(..count).collect();
        self.forget(&removed)
    }

    pub(super) fn keep_newest(&mut self, name: &str, max: usize) {
        let Some(stream) = self.streams.get(name) else { return };
        let max = u64::try_from(max.max(1)).unwrap_or(u64::MAX);
        let before = (stream.version + 1).saturating_sub(max);
        self.truncate(name, before);
    }

    pub(super) fn delete(&mut self, name: &str) -> u64 {
        let stream = self.streams.remove(name);
        let removed = stream.map_or_else(Vec::new, |stream| stream.positions.into());
        self.forget(&removed)
    }

    /// Removes what was appended `ttl` ago or earlier; the oldest of the log are the first to go.
    pub(super) fn expire(&mut self, now: Instant, ttl: Duration) {
        while let Some(first) = self.log.first_entry() {
            if now.duration_since(first.get().appended) < ttl {
                return;
            }
            let Entry { recorded, .. } = first.remove();
            if let Some(stream) = self.streams.get_mut(&recorded.stream) {
                stream.positions.pop_front();
            }
            self.indexes.remove(recorded.position.to_raw(), recorded.event.attributes());
        }
    }

    /// Takes events that their stream no longer has out of everything else.
    fn forget(&mut self, positions: &[u64]) -> u64 {
        let mut removed = 0;
        for position in positions {
            if let Some(Entry { recorded, .. }) = self.log.remove(position) {
                self.indexes.remove(*position, recorded.event.attributes());
                removed += 1;
            }
        }
        removed
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> usize {
        let in_streams = self.streams.values().map(|stream| stream.positions.len());
        self.log.len() + self.indexes.len() + in_streams.sum::<usize>()
    }
}
