//! The state of one subscription: its partitions, what was read of them, and what is out.

mod handover;

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use trunkline_core::{Error, Event, Group, Result};

use crate::codec::{Extras, Record, now_millis};
use crate::error;
use crate::mutant::Mutations;
use crate::note::Note;
use crate::part::{Back, HoldBack, Out, Part, Source, Standing};
use crate::position::Spot;
use crate::queue::{Entry, Queue};
use crate::track::{Arrival, Track};

/// Keyed by numbers of this process's own choice, and looked at several times for each event.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// What taking deliveries gave.
pub(crate) enum Turn {
    Taken,
    Empty,
    Ended,
}

#[derive(Debug)]
pub(crate) struct Desk {
    parts: HashMap<u32, Part>,
    by_place: HashMap<(u32, i32), u32>,
    pub(crate) queue: Queue,
    out: HashMap<u64, Out>,
    seq: u64,
    next_part: u32,
    prefetch: usize,
    lanes: bool,
    lane_window: usize,
    /// Nothing is handed out before it, unless all that was there has been read.
    ahead_until: Option<Instant>,
    /// Whose members share it; none for a subscriber of its own, and for who moves delayed events.
    group: Option<Group>,
    waker: Option<Waker>,
    pub(crate) has_ended: bool,
    mutations: Mutations,
    /// Only for a mutant: what was settled after its partition had gone.
    pub(crate) late: Vec<(String, i32, i64)>,
    gone: HashMap<u32, (String, i32)>,
    /// What was settled of partitions that were lost before it was committed: should they come back,
    /// it is not delivered again.
    lost: HashMap<(String, i32), (i64, Note)>,
    /// How many settlements wait for a commit, and how many of them have one.
    pub(crate) commits_wanted: u64,
    pub(crate) commits_made: u64,
    /// How many deliveries were settled since the last commit.
    pub(crate) uncommitted: usize,
}

impl Desk {
    pub(crate) fn new(
        prefetch: usize,
        lane_window: Option<usize>,
        group: Option<Group>,
        mutations: Mutations,
    ) -> Self {
        Self {
            parts: HashMap::default(),
            by_place: HashMap::default(),
            queue: Queue::default(),
            out: HashMap::default(),
            seq: 0,
            next_part: 0,
            prefetch,
            lanes: lane_window.is_some(),
            lane_window: lane_window.unwrap_or(0),
            ahead_until: None,
            group,
            waker: None,
            has_ended: false,
            mutations,
            late: Vec::new(),
            gone: HashMap::default(),
            lost: HashMap::default(),
            commits_wanted: 0,
            commits_made: 0,
            uncommitted: 0,
        }
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.values()
    }

    pub(crate) fn out_count(&self) -> usize {
        self.out.len()
    }

    /// Begins an assignment of a partition; `ahead` is where its log ended, with lanes.
    pub(crate) fn assign(
        &mut self,
        source: &Arc<Source>,
        partition: i32,
        track: Track,
        ahead: Option<(i64, Instant)>,
    ) {
        let id = self.next_part;
        self.next_part += 1;
        if let Some((_, until)) = ahead {
            self.ahead_until = Some(until);
        }
        let part = Part {
            source: Arc::clone(source),
            partition,
            track,
            out: 0,
            is_revoking: false,
            is_dirty: true,
            ahead: ahead.map_or(0, |(offset, _)| offset),
            is_held_back: false,
        };
        if let Some(old) = self.by_place.insert((source.id, partition), id) {
            self.remove(old);
        }
        self.parts.insert(id, part);
    }

    fn id_of(&self, source: &Source, partition: i32) -> Option<u32> {
        self.by_place.get(&(source.id, partition)).copied()
    }

    pub(crate) fn standing(&self, name: &str, partition: i32) -> Option<Standing> {
        let mut parts = self.parts.values();
        let part = parts.find(|part| part.partition == partition && part.source.name == name)?;
        let (mark, done_above) = (part.track.mark(), part.track.done_above());
        Some(Standing { mark, done_above, out: part.out })
    }

    /// Takes a record in that was read.
    pub(crate) fn arrive(&mut self, source: &Source, partition: i32, offset: i64, record: Record) {
        let Some(id) = self.id_of(source, partition) else { return };
        let Some(part) = self.parts.get_mut(&id).filter(|part| !part.is_revoking) else { return };
        part.is_dirty = true;
        let written = match part.track.arrive(offset) {
            Arrival::Fresh(written) => written,
            Arrival::Known => return,
            Arrival::Back => {
                let source = Arc::clone(&part.source);
                tracing::warn!(topic = source.name, partition, offset, "the log has gone back");
                // What is out of the old log is fenced.
                self.assign(&source, partition, Track::new(offset, Note::default()), None);
                return self.arrive(&source, partition, offset, record);
            }
        };
        let is_for_another = match &record.group {
            // A redriven event.
            Some(group) => self.group.as_ref() != Some(group),
            None => record.broadcast_only && self.group.is_some(),
        };
        if is_for_another {
            part.track.complete(offset);
            return;
        }
        self.seq += 1;
        let rank = if self.lanes { 3 - record.event.attributes().priority() as u8 } else { 0 };
        let entry = Entry {
            seq: self.seq,
            part: id,
            offset,
            at: record.at,
            rank,
            event: record.event,
            attempts: written.max(record.attempts),
            redeliveries: 0,
            defect: record.defect,
            extras: record.extras,
        };
        match record.due.and_then(due) {
            Some(due) => self.queue.hold(entry, due),
            None => self.queue.push(entry),
        }
    }

    /// Hands out up to `max`, as far as the prefetch allows.
    pub(crate) fn take(&mut self, max: usize, waker: &Waker, taken: &mut Vec<Entry>) -> Turn {
        if self.has_ended {
            return Turn::Ended;
        }
        let before = taken.len();
        while taken.len() - before < max && self.out.len() < self.prefetch && !self.is_looking() {
            let Some(mut entry) = self.queue.pop() else { break };
            let Some(part) = self.parts.get_mut(&entry.part) else { continue };
            part.out += 1;
            part.is_dirty = true;
            if self.mutations.ack_early {
                part.track.complete(entry.offset);
            }
            let out = Out {
                part: entry.part,
                offset: entry.offset,
                at: entry.at,
                rank: entry.rank,
                defect: entry.defect.as_ref().map(Error::duplicate),
                extras: entry.extras.take(),
            };
            self.out.insert(entry.seq, out);
            taken.push(entry);
        }
        if taken.len() > before {
            return Turn::Taken;
        }
        if self.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
        Turn::Empty
    }

    /// Whether the urgent events of a backlog are still being looked for.
    fn is_looking(&mut self) -> bool {
        let Some(until) = self.ahead_until else { return false };
        let behind = |part: &Part| part.track.next() < part.ahead;
        let goes_on = Instant::now() < until
            && self.queue.len() < self.lane_window
            && self.parts.values().any(behind);
        if !goes_on {
            self.ahead_until = None;
        }
        goes_on
    }

    pub(crate) fn ahead_until(&self) -> Option<Instant> {
        self.ahead_until
    }

    /// Whether as many deliveries are settled and not committed as may be out at a time.
    pub(crate) fn has_much_uncommitted(&self) -> bool {
        self.uncommitted >= self.prefetch
    }

    /// Wakes who waits for deliveries.
    pub(crate) fn wake(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Fails when the delivery's partition has gone.
    pub(crate) fn check(&self, seq: u64) -> Result<()> {
        let out = self.out.get(&seq);
        out.filter(|out| self.parts.contains_key(&out.part)).map(drop).ok_or_else(error::fenced)
    }

    pub(crate) fn extras(&self, seq: u64) -> (Option<Extras>, bool) {
        let out = self.out.get(&seq);
        let extras = out.and_then(|out| out.extras.as_deref().cloned());
        (extras, out.is_some_and(|out| out.defect.is_some()))
    }

    /// Where the event of a delivery stands, when it is out of a partition that is still here.
    pub(crate) fn spot(&self, seq: u64) -> Option<Spot> {
        let out = self.out.get(&seq).filter(|out| out.offset >= 0)?;
        let part = self.parts.get(&out.part)?;
        let (name, partition) = (part.source.name.clone(), part.partition);
        Some(Spot { name, partition, offset: out.offset, at: out.at })
    }

    /// Notes that a delivery is settled for good.
    pub(crate) fn complete(&mut self, seq: u64) -> Result<()> {
        if self.mutations.no_fence
            && let Some(out) = self.out.get(&seq)
            && let Some((name, partition)) = self.gone.get(&out.part)
        {
            self.late.push((name.clone(), *partition, out.offset + 1));
        }
        let out = self.out.remove(&seq).ok_or_else(error::fenced)?;
        let Some(part) = self.parts.get_mut(&out.part) else {
            return if self.mutations.no_fence { Ok(()) } else { Err(error::fenced()) };
        };
        part.out -= 1;
        part.track.complete(out.offset);
        part.is_dirty = true;
        self.uncommitted += 1;
        Ok(())
    }

    /// Takes a delivery back to its place.
    pub(crate) fn put_back(&mut self, seq: u64, event: Event, back: Back) -> Result<()> {
        let out = self.out.remove(&seq).ok_or_else(error::fenced)?;
        let part = self.parts.get_mut(&out.part).ok_or_else(error::fenced)?;
        let Back { attempts, redeliveries, is_written, until } = back;
        part.out -= 1;
        part.is_dirty = true;
        if is_written {
            part.track.set_attempts(out.offset, attempts);
        }
        // The next owner delivers it.
        if part.is_revoking || self.has_ended || self.mutations.ack_early {
            return Ok(());
        }
        let entry = Entry {
            seq,
            part: out.part,
            offset: out.offset,
            at: out.at,
            rank: out.rank,
            event,
            attempts,
            redeliveries,
            defect: out.defect,
            extras: out.extras,
        };
        match until {
            Some(until) => self.queue.hold(entry, until),
            None => self.queue.put_back(entry),
        }
        Ok(())
    }

    /// Puts an event in that comes from nowhere else: a redriven one of a broadcast subscriber.
    pub(crate) fn offer(&mut self, event: Event) -> bool {
        // It needs a place in the log for its settling: that of any partition will do.
        let Some(id) = self.parts.keys().next().copied() else { return false };
        self.seq += 1;
        self.queue.push(Entry {
            seq: self.seq,
            part: id,
            offset: -1,
            at: 0,
            rank: 0,
            event,
            attempts: 0,
            redeliveries: 0,
            defect: None,
            extras: None,
        });
        true
    }

    /// Partitions of which too many events wait, and those that may go on.
    pub(crate) fn hold_back(&mut self, window: usize) -> HoldBack {
        let mut change = HoldBack::default();
        for (id, part) in &mut self.parts {
            let held = self.queue.held_of(*id);
            let place = || (part.source.name.clone(), part.partition);
            if !part.is_held_back && held >= window {
                change.pause.push(place());
                part.is_held_back = true;
            } else if part.is_held_back && held <= window / 2 {
                change.resume.push(place());
                part.is_held_back = false;
            }
        }
        change
    }

    /// Ends the subscription: nothing is handed out any more.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
        self.queue.clear();
    }
}

/// When a time on the wire is here, if it is not past.
fn due(millis: i64) -> Option<Instant> {
    /// As good as never, and no overflow of the clock.
    const FAR: u64 = 10 * 365 * 24 * 3_600 * 1_000;
    let left = u64::try_from(millis.saturating_sub(now_millis())).ok().filter(|left| *left > 0)?;
    Some(Instant::now() + std::time::Duration::from_millis(left.min(FAR)))
}
