//! Which remote copies this process's broadcast subscribers have received locally.
//!
//! A remote copy is an echo when it carries an origin of ours that was in use after the subscriber
//! had joined the local broker, unless its local copy was refused. While that is still open, the
//! remote copy waits: dropping it early could lose the event, handing it out early could double it.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use smol_str::{SmolStr, format_smolstr};
use trunkline_core::{Attributes, Event, EventId, Identity};

use crate::counters::Counter;

/// How many refused local copies are remembered: about 1 MiB of identities. Beyond it every copy
/// that is under way is handed out, so that what is forgotten costs a duplicate and never a loss.
const MAX_UNDELIVERED: usize = 10_000;

/// The echoes of one hybrid broker.
#[derive(Debug)]
pub(crate) struct Echoes {
    /// The part of our origins that no other process has.
    base: SmolStr,
    state: Mutex<State>,
    pub(crate) dropped: Counter,
}

#[derive(Debug)]
struct State {
    /// Grows with every broadcast subscriber: earlier events have no local copy for that one.
    epoch: u64,
    origin: SmolStr,
    /// Origins of an earlier epoch count as foreign.
    floor: u64,
    /// Events whose remote publish or local copy is under way, and how many of each.
    in_flight: HashMap<Identity, usize>,
    /// Events that the remote broker took, or may have taken, and the local broker did not.
    undelivered: HashSet<Identity>,
    /// Subscribers that wait for an event in flight.
    waiting: Vec<Waker>,
}

/// What a broadcast subscriber does with a remote delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Hand it out: there was no local copy.
    Deliver,
    /// Acknowledge it silently: the local copy has been handed over.
    Drop,
    /// The local copy is still under way; the waker has been noted.
    Wait,
}

/// How the publish of one event both ways ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landing {
    /// The remote broker certainly did not take it.
    Nowhere,
    /// The remote broker took it, or may have, and the local one did not.
    Remote,
    /// Both took it.
    Both,
}

impl Echoes {
    pub(crate) fn new() -> Self {
        let base = format_smolstr!("{}", EventId::generate());
        let state = State {
            epoch: 0,
            origin: origin(&base, 0),
            floor: 0,
            in_flight: HashMap::new(),
            undelivered: HashSet::new(),
            waiting: Vec::new(),
        };
        Self { base, state: Mutex::new(state), dropped: Counter::default() }
    }

    /// Begins an epoch for a broadcast subscriber that has just joined the local broker.
    pub(crate) fn join(&self) -> u64 {
        let mut state = self.lock();
        state.begin_epoch(&self.base);
        state.epoch
    }

    /// Notes that `events` are about to be published both ways.
    pub(crate) fn depart(&self, events: &[Event]) -> Flight<'_> {
        let identities: Vec<_> = events.iter().map(|event| event.attributes().identity()).collect();
        let mut state = self.lock();
        for identity in &identities {
            *state.in_flight.entry(identity.clone()).or_default() += 1;
        }
        let origin = state.origin.clone();
        drop(state);
        Flight { echoes: self, origin, open: identities.into_iter().map(Some).collect() }
    }

    /// Judges a remote delivery for a subscriber that joined in the epoch `since`.
    pub(crate) fn judge(&self, event: &Attributes, since: u64, waker: &Waker) -> Judgement {
        let Some(epoch) = event.origin().and_then(|origin| self.epoch_of(origin)) else {
            return Judgement::Deliver;
        };
        let identity = event.identity();
        let mut state = self.lock();
        if epoch < since.max(state.floor) {
            return Judgement::Deliver;
        }
        if state.in_flight.contains_key(&identity) {
            if !state.waiting.iter().any(|known| known.will_wake(waker)) {
                state.waiting.push(waker.clone());
            }
            return Judgement::Wait;
        }
        if state.undelivered.contains(&identity) { Judgement::Deliver } else { Judgement::Drop }
    }

    /// The epoch of an origin, when it is one of ours.
    fn epoch_of(&self, origin: &str) -> Option<u64> {
        origin.strip_prefix(self.base.as_str())?.strip_prefix('-')?.parse().ok()
    }

    fn land(&self, identity: Identity, landing: Landing) {
        let mut state = self.lock();
        if let Some(count) = state.in_flight.get_mut(&identity) {
            *count -= 1;
            if *count == 0 {
                state.in_flight.remove(&identity);
            }
        }
        match landing {
            Landing::Nowhere => {}
            Landing::Both => {
                state.undelivered.remove(&identity);
            }
            Landing::Remote => state.remember(identity, &self.base),
        }
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics half-way through a change, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin_epoch(&mut self, base: &str) {
        self.epoch += 1;
        self.origin = origin(base, self.epoch);
    }

    fn remember(&mut self, identity: Identity, base: &str) {
        self.undelivered.insert(identity);
        if self.undelivered.len() <= MAX_UNDELIVERED {
            return;
        }
        tracing::warn!(
            remembered = MAX_UNDELIVERED,
            "the local broker refused too many copies of events that are routed both ways: \
             broadcast subscribers may see some of them twice"
        );
        self.undelivered.clear();
        self.begin_epoch(base);
        self.floor = self.epoch;
    }
}

fn origin(base: &str, epoch: u64) -> SmolStr {
    format_smolstr!("{base}-{epoch}")
}

/// Events on their way both ways. What has not landed when this is dropped counts as refused by the
/// local broker, because the remote one may have taken it.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    echoes: &'a Echoes,
    origin: SmolStr,
    open: Vec<Option<Identity>>,
}

impl Flight<'_> {
    /// The `originid` of the remote copies.
    pub(crate) fn origin(&self) -> &SmolStr {
        &self.origin
    }

    /// Notes how the publish of the event at `index` ended.
    pub(crate) fn land(&mut self, index: usize, landing: Landing) {
        if let Some(identity) = self.open.get_mut(index).and_then(Option::take) {
            self.echoes.land(identity, landing);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        for identity in self.open.drain(..).flatten() {
            self.echoes.land(identity, Landing::Remote);
        }
    }
}

#[cfg(test)]
mod tests {
    use trunkline_core::{Data, Topic};

    use super::*;

    fn event(id: usize) -> Event {
        let topic = Topic::from_static("t");
        Event::from_data("T", topic, Data::json("1")).id(id.to_string()).build().unwrap()
    }

    fn remote_copy(event: &Event, flight: &Flight<'_>) -> Event {
        event.amend(|attributes| attributes.set_origin(Some(flight.origin().clone()))).unwrap()
    }

    fn judge(echoes: &Echoes, copy: &Event, since: u64) -> Judgement {
        echoes.judge(copy.attributes(), since, Waker::noop())
    }

    #[test]
    fn a_remote_copy_waits_until_its_local_copy_is_decided() {
        let echoes = Echoes::new();
        let (since, event) = (echoes.join(), event(1));
        let mut flight = echoes.depart(std::slice::from_ref(&event));
        let copy = remote_copy(&event, &flight);
        assert_eq!(judge(&echoes, &copy, since), Judgement::Wait);
        flight.land(0, Landing::Both);
        assert_eq!(judge(&echoes, &copy, since), Judgement::Drop);
    }

    #[test]
    fn a_publish_that_was_dropped_half_way_leaves_the_remote_copy_to_be_delivered() {
        let echoes = Echoes::new();
        let (since, event) = (echoes.join(), event(1));
        let flight = echoes.depart(std::slice::from_ref(&event));
        let copy = remote_copy(&event, &flight);
        drop(flight);
        assert_eq!(judge(&echoes, &copy, since), Judgement::Deliver);
    }

    #[test]
    fn a_subscriber_that_came_later_gets_the_remote_copy_of_what_it_missed() {
        let echoes = Echoes::new();
        let (early, event) = (echoes.join(), event(1));
        let mut flight = echoes.depart(std::slice::from_ref(&event));
        let copy = remote_copy(&event, &flight);
        flight.land(0, Landing::Both);
        let late = echoes.join();
        assert_eq!(judge(&echoes, &copy, early), Judgement::Drop);
        assert_eq!(judge(&echoes, &copy, late), Judgement::Deliver);
    }

    #[test]
    fn forgetting_refused_copies_never_drops_one_of_them() {
        let echoes = Echoes::new();
        let since = echoes.join();
        let events: Vec<Event> = (0..=MAX_UNDELIVERED).map(event).collect();
        let flight = echoes.depart(&events);
        let copies: Vec<Event> = events.iter().map(|event| remote_copy(event, &flight)).collect();
        drop(flight);
        let delivered = |copy: &Event| judge(&echoes, copy, since) == Judgement::Deliver;
        assert!(copies.iter().all(delivered));
        assert!(echoes.lock().undelivered.is_empty());
    }
}
