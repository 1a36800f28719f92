//! What a member has received and not handed out, and what it has handed out and not settled.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use smol_str::SmolStr;
use trunkline_core::{Error, Event};

use crate::tap::Tap;

/// A delivery of the server, in this process.
pub(crate) struct Entry {
    pub(crate) event: Event,
    pub(crate) defect: Option<Error>,
    pub(crate) attempts: u32,
    pub(crate) redeliveries: u32,
    pub(crate) copy: SmolStr,
    pub(crate) tap: Arc<Tap>,
    pub(crate) tag: u64,
}

/// The place of an entry: the most urgent first, then in the order in which they came.
pub(crate) type Place = (u8, u64);

/// A delivery that is out.
pub(crate) struct Out {
    pub(crate) tap: Arc<Tap>,
    pub(crate) tag: u64,
    pub(crate) place: Place,
    pub(crate) lane: Option<u64>,
    pub(crate) copy: SmolStr,
    pub(crate) defect: Option<Error>,
}

/// A key of which something is out.
#[derive(Default)]
struct Lane {
    out: usize,
    /// Something came back, or its channel died: nothing more of it goes out until nothing is out.
    shut: bool,
    held: BTreeMap<Place, Entry>,
}

/// The buffer of a member; everything of it is under one lock.
#[derive(Default)]
pub(crate) struct Inbox {
    ready: BTreeMap<Place, Entry>,
    lanes: HashMap<u64, Lane>,
    out: HashMap<u64, Out>,
    prefetch: usize,
    next: u64,
    waker: Option<Waker>,
    /// Less urgent events wait until this many more have come.
    gather: usize,
    ended: bool,
}

impl Inbox {
    pub(crate) fn new(prefetch: usize) -> Self {
        Self { prefetch, ..Self::default() }
    }

    /// Adds what the server sent. The caller wakes the waker when the lock is gone.
    pub(crate) fn push(&mut self, urgency: u8, entry: Entry) -> Option<Waker> {
        if entry.tap.is_shut() {
            return None;
        }
        self.next += 1;
        let place = (u8::MAX - urgency, self.next);
        self.gather = self.gather.saturating_sub(1);
        self.ready.insert(place, entry);
        self.waker.take()
    }

    /// Holds deliveries back until so many have come, so that the most urgent of them goes first.
    pub(crate) fn gather(&mut self, count: usize) {
        self.gather = count;
    }

    pub(crate) fn stop_gathering(&mut self) -> Option<Waker> {
        self.gather = 0;
        self.waker.take()
    }

    /// Takes the next delivery that may go out, with its token.
    pub(crate) fn take(&mut self) -> Option<(u64, Entry)> {
        if self.out.len() >= self.prefetch || self.gather > 0 {
            return None;
        }
        while let Some((place, mut entry)) = self.ready.pop_first() {
            // The server gives it to a member again.
            if entry.tap.is_dead() {
                continue;
            }
            let lane = entry.event.attributes().lane();
            if let Some(id) = lane {
                let lane = self.lanes.entry(id).or_default();
                if lane.shut {
                    lane.held.insert(place, entry);
                    continue;
                }
                lane.out += 1;
            }
            let token = place.1;
            entry.tap.hand_out();
            let out = Out {
                tap: Arc::clone(&entry.tap),
                tag: entry.tag,
                place,
                lane,
                copy: std::mem::take(&mut entry.copy),
                defect: entry.defect.as_ref().map(Error::duplicate),
            };
            self.out.insert(token, out);
            return Some((token, entry));
        }
        None
    }

    pub(crate) fn out(&self, token: u64) -> Option<&Out> {
        self.out.get(&token)
    }

    /// Notes that a delivery is settled, or is back where `back` holds it.
    pub(crate) fn finish(
        &mut self,
        token: u64,
        back: impl FnOnce(&Out) -> Option<Entry>,
    ) -> Option<Waker> {
        let out = self.out.remove(&token)?;
        let back = back(&out).filter(|_| !out.tap.is_shut());
        if let Some(id) = out.lane {
            self.finish_lane(id, out.place, back);
        } else if let Some(entry) = back {
            self.ready.insert(out.place, entry);
        }
        out.tap.take_back();
        // With nothing ready there is nothing to wake for; and a wake for every single settlement
        // would cost more than the events.
        let is_hungry = self.out.len() + (self.prefetch / 4).max(1) <= self.prefetch;
        if self.ready.is_empty() || !is_hungry { None } else { self.waker.take() }
    }

    fn finish_lane(&mut self, id: u64, place: Place, back: Option<Entry>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.out -= 1;
        if let Some(entry) = back {
            lane.shut = true;
            lane.held.insert(place, entry);
        }
        if lane.out == 0
            && let Some(mut lane) = self.lanes.remove(&id)
        {
            self.ready.append(&mut lane.held);
        }
    }

    /// Forgets what a channel brought and is not out; keys of which something is out wait for it.
    pub(crate) fn forget(&mut self, tap: &Arc<Tap>) -> Option<Waker> {
        let is_other = |entry: &Entry| !Arc::ptr_eq(&entry.tap, tap);
        self.ready.retain(|_, entry| is_other(entry));
        for lane in self.lanes.values_mut() {
            lane.held.retain(|_, entry| is_other(entry));
        }
        for out in self.out.values() {
            if Arc::ptr_eq(&out.tap, tap)
                && let Some(lane) = out.lane.and_then(|id| self.lanes.get_mut(&id))
            {
                lane.shut = true;
            }
        }
        self.gather = 0;
        self.waker.take()
    }

    /// Ends the subscription: nothing more goes out.
    pub(crate) fn end(&mut self) -> Option<Waker> {
        self.ended = true;
        self.ready.clear();
        self.lanes.values_mut().for_each(|lane| lane.held.clear());
        self.waker.take()
    }

    /// Registers who wants more; ready with false when none will come.
    pub(crate) fn wait(&mut self, cx: &Context<'_>) -> Poll<bool> {
        if self.ended {
            return Poll::Ready(false);
        }
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// What is here and not out, and what is out.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let held: usize = self.lanes.values().map(|lane| lane.held.len()).sum();
        (self.ready.len() + held, self.out.len())
    }
}
