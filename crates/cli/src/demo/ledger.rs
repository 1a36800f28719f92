//! The ledger of a run: which event was handled by whom, when, in which order and how often.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use trunkline::{Event, Identity};

use super::CONSUMERS;
use super::record::Record;

/// What is known of every event of a run.
///
/// One lookup and one short lock of the event itself per handler entry and exit; no two events share
/// a lock beyond the lookup, which only a new event makes exclusive.
#[derive(Debug)]
pub(super) struct Ledger {
    records: RwLock<HashMap<Identity, Arc<Record>>>,
    counts: [Counts; CONSUMERS],
    /// Settlements that accepted events still wait for.
    outstanding: AtomicU64,
    nothing_outstanding: Notify,
    last_settled: RwLock<Instant>,
}

/// What one group, or the broadcast subscriber, has done.
#[derive(Debug, Default)]
struct Counts {
    handled: AtomicU64,
    duplicates: AtomicU64,
    out_of_order: AtomicU64,
    dead_lettered: AtomicU64,
}

/// What one group has done, as numbers that no longer change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Distinct events of which a handler finished.
    pub(super) handled: u64,
    /// Handlings of an event that had been handled before.
    pub(super) duplicates: u64,
    /// First handlings that began after or beside a later event of their sequence.
    pub(super) out_of_order: u64,
    /// Distinct events among the dead letters.
    pub(super) dead_lettered: u64,
    /// Accepted events that are neither handled nor among the dead letters.
    pub(super) lost: u64,
}

/// What was measured over all events.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// When the first publish call began.
    pub(super) first_publish: Option<Instant>,
    /// From publish call to first handler entry, ascending.
    pub(super) latencies: Vec<Duration>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            records: RwLock::default(),
            counts: Default::default(),
            outstanding: AtomicU64::new(0),
            nothing_outstanding: Notify::new(),
            last_settled: RwLock::new(Instant::now()),
        }
    }
}

impl Ledger {
    /// Opens the record of an event that is about to be published.
    ///
    /// # Errors
    /// The record of the event with the same identity that came before.
    pub(super) fn open(
        &self,
        event: &Event,
        record: impl FnOnce() -> Record,
    ) -> Result<Arc<Record>, Arc<Record>> {
        use std::collections::hash_map::Entry;
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        match records.entry(event.attributes().identity()) {
            Entry::Occupied(known) => Err(Arc::clone(known.get())),
            Entry::Vacant(place) => Ok(Arc::clone(place.insert(Arc::new(record())))),
        }
    }

    /// Notes that the publish of an event returned Ok.
    pub(super) fn accept(&self, record: &Record) {
        let mut state = record.state();
        state.accepted = true;
        record.kind.count();
        let open = state.standings.iter().filter(|standing| !standing.is_settled()).count();
        self.outstanding.fetch_add(open as u64, Ordering::AcqRel);
    }

    /// Notes that a handler of `consumer` is entered; `None` for an event of somebody else.
    pub(super) fn enter(&self, consumer: usize, event: &Event) -> Option<Visit<'_>> {
        let now = Instant::now();
        let record = self.find(&event.attributes().identity())?;
        let mut state = record.state();
        state.entered.get_or_insert(now);
        let first = !std::mem::replace(&mut state.standings[consumer].entered, true);
        let holds_place = first && record.place.is_some();
        let in_order = !first || record.place.as_ref().is_none_or(|place| place.enter(consumer));
        drop(state);
        if !in_order {
            self.counts[consumer].out_of_order.fetch_add(1, Ordering::Relaxed);
        }
        Some(Visit { ledger: self, record, consumer, holds_place })
    }

    /// Notes that `consumer` has given an event up; whether that is news.
    pub(super) fn dead_letter(&self, consumer: usize, identity: &Identity) -> bool {
        let Some(record) = self.find(identity) else { return false };
        let mut state = record.state();
        let standing = &mut state.standings[consumer];
        let open = !standing.is_settled();
        let news = !std::mem::replace(&mut standing.dead, true);
        if news {
            self.counts[consumer].dead_lettered.fetch_add(1, Ordering::Relaxed);
        }
        self.settle(open, state.accepted);
        news
    }

    /// Whether an event of this identity was published in this run; its record, if so.
    pub(super) fn published(&self, identity: &Identity) -> Option<Arc<Record>> {
        self.find(identity).filter(|record| record.state().accepted)
    }

    /// Settlements that accepted events still wait for.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Waits until nothing may be outstanding; may return early.
    pub(super) async fn settled(&self) {
        self.nothing_outstanding.notified().await;
    }

    /// Settlements so far, over all groups: grows as long as the run makes progress.
    pub(super) fn settlements(&self) -> u64 {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.counts.iter().map(|c| count(&c.handled) + count(&c.dead_lettered)).sum()
    }

    /// When the last settlement was noted.
    pub(super) fn last_settled(&self) -> Instant {
        *self.last_settled.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each group has done.
    pub(super) fn totals(&self) -> [Totals; CONSUMERS] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut totals = [0; CONSUMERS].map(|_| Totals::default());
        for (totals, counts) in totals.iter_mut().zip(&self.counts) {
            totals.handled = count(&counts.handled);
            totals.duplicates = count(&counts.duplicates);
            totals.out_of_order = count(&counts.out_of_order);
            totals.dead_lettered = count(&counts.dead_lettered);
        }
        self.each(|_, record| {
            let state = record.state();
            for (totals, standing) in totals.iter_mut().zip(&state.standings) {
                totals.lost += u64::from(state.accepted && !standing.is_settled());
            }
        });
        totals
    }

    /// What was measured over the events that were published.
    pub(super) fn timing(&self) -> Timing {
        let mut timing = Timing::default();
        self.each(|_, record| {
            let state = record.state();
            let earlier = [timing.first_publish, state.started].into_iter().flatten().min();
            timing.first_publish = earlier;
            timing.latencies.extend(state.latency().filter(|_| state.accepted));
        });
        timing.latencies.sort_unstable();
        timing
    }

    /// The accepted events that somebody lacks, at most `limit`, by line: who, and which.
    pub(super) fn missing(&self, limit: usize) -> Vec<(u64, usize, Identity)> {
        let mut missing = Vec::new();
        self.each(|identity, record| {
            let state = record.state();
            let lacking = state.standings.iter().enumerate().filter(|(_, s)| !s.is_settled());
            let lacking = lacking.filter(|_| state.accepted);
            missing.extend(lacking.map(|(consumer, _)| (record.line, consumer, identity.clone())));
        });
        missing.sort_unstable();
        missing.truncate(limit);
        missing
    }

    fn each(&self, mut look: impl FnMut(&Identity, &Record)) {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.iter().for_each(|(identity, record)| look(identity, record));
    }

    fn find(&self, identity: &Identity) -> Option<Arc<Record>> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.get(identity).map(Arc::clone)
    }

    /// Called with the event's state locked, so that acceptance and settlement cannot both miss it.
    fn settle(&self, was_open: bool, accepted: bool) {
        if !was_open {
            return;
        }
        *self.last_settled.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if accepted && self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.nothing_outstanding.notify_one();
        }
    }
}

/// One handler at work on one event; dropped before its end, the event was not handled.
pub(super) struct Visit<'a> {
    ledger: &'a Ledger,
    record: Arc<Record>,
    consumer: usize,
    /// Whether this is the first handling of an event whose order is promised.
    holds_place: bool,
}

impl Visit<'_> {
    /// Notes that the handler finished.
    pub(super) fn complete(mut self) {
        let record = Arc::clone(&self.record);
        let counts = &self.ledger.counts[self.consumer];
        let mut state = record.state();
        let standing = &mut state.standings[self.consumer];
        let open = !standing.is_settled();
        let copy = std::mem::replace(&mut standing.handled, true);
        let counter = if copy { &counts.duplicates } else { &counts.handled };
        counter.fetch_add(1, Ordering::Relaxed);
        // The place is given up first: once nothing is outstanding nobody works any more.
        self.leave();
        self.ledger.settle(open, state.accepted);
    }

    fn leave(&mut self) {
        let holds_place = std::mem::take(&mut self.holds_place);
        if let Some(place) = self.record.place.as_ref().filter(|_| holds_place) {
            place.leave(self.consumer);
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
