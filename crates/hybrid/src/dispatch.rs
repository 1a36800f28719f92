//! A batch on its way when it goes several ways, or when an answer has to be waited for.

use std::borrow::Cow;
use std::collections::HashSet;

use smol_str::SmolStr;
use trunkline_core::{
    Audience, BatchResult, Error, ErrorKind, Event, PublishOptions, RetryClass, Route,
};

use crate::broker::Inner;
use crate::config::{OnNoLocalSubscriber, OnRemoteDown};
use crate::echoes::{Flight, Landing};
use crate::plan::{Key, Leg, key_of};
use crate::publish::has_no_origin;

/// The publish of one batch.
///
/// An event that fails breaks its key: later events of the key are not attempted on either side.
pub(crate) struct Dispatch<'a> {
    hybrid: &'a Inner,
    events: &'a [Event],
    options: &'a PublishOptions,
    result: BatchResult,
    broken: HashSet<Key<'a>>,
}

/// An event that one side did not take and the other side may get: its place, and why.
type Redirected = (usize, Error);

impl<'a> Dispatch<'a> {
    pub(crate) fn new(hybrid: &'a Inner, events: &'a [Event], options: &'a PublishOptions) -> Self {
        let result = BatchResult::accepted();
        Self { hybrid, events, options, result, broken: HashSet::new() }
    }

    /// Sends the legs one after the other.
    pub(crate) async fn run(mut self, legs: Vec<Leg>) -> BatchResult {
        for leg in legs {
            let places = self.unbroken(leg.places);
            if places.is_empty() {
                continue;
            }
            match leg.route {
                Route::Local => self.send_local(&places).await,
                Route::Remote => self.send_remote(&places).await,
                Route::Both => self.send_both(&places).await,
            }
            self.count(leg.route, &places);
        }
        self.result
    }

    /// Goes on after the local broker has answered for the whole batch.
    pub(crate) async fn finish_local(mut self, outcome: BatchResult) -> BatchResult {
        let places = Leg::whole(Route::Local, self.events.len()).places;
        self.after_local(&places, outcome).await;
        self.count(Route::Local, &places);
        self.result
    }

    /// Goes on after the remote broker has answered for the whole batch.
    pub(crate) async fn finish_remote(mut self, outcome: BatchResult) -> BatchResult {
        let places = Leg::whole(Route::Remote, self.events.len()).places;
        self.after_remote(&places, outcome).await;
        self.count(Route::Remote, &places);
        self.result
    }

    async fn send_local(&mut self, places: &[usize]) {
        let batch = self.gather(places);
        let outcome = self.hybrid.local.publish(&batch, self.options).await;
        self.after_local(places, outcome).await;
    }

    async fn after_local(&mut self, places: &[usize], outcome: BatchResult) {
        let allowed = self.hybrid.config.on_no_local_subscriber == OnNoLocalSubscriber::Remote;
        let unroutable = |error: &Error| allowed && error.kind() == ErrorKind::Unroutable;
        let redirected = self.settle(places, outcome, unroutable);
        if redirected.is_empty() {
            return;
        }
        self.hybrid.counters.local_unroutable.add(redirected.len());
        tracing::debug!(
            events = redirected.len(),
            "nobody local takes these events: they go to the remote broker"
        );
        let places: Vec<usize> = redirected.into_iter().map(|(place, _)| place).collect();
        let outcome = self.publish_remote(&places).await;
        self.hybrid.remote_state.learn(&outcome, places.len());
        // Not back to the local broker when the remote one is down: nobody there takes them.
        self.settle(&places, outcome, |_| false);
    }

    async fn send_remote(&mut self, places: &[usize]) {
        let outcome = self.publish_remote(places).await;
        self.after_remote(places, outcome).await;
    }

    async fn after_remote(&mut self, places: &[usize], outcome: BatchResult) {
        self.hybrid.remote_state.learn(&outcome, places.len());
        let redirected = self.settle(places, outcome, falls_back(self.hybrid));
        self.fall_back(redirected).await;
    }

    async fn publish_remote(&mut self, places: &[usize]) -> BatchResult {
        let mut batch = self.gather(places);
        if !batch.iter().all(has_no_origin) {
            batch = batch.iter().map(|event| with_origin(event, None)).collect();
        }
        self.hybrid.remote.publish(&batch, self.options).await
    }

    /// Sends to the remote broker first; what that accepts is copied to local broadcast subscribers.
    async fn send_both(&mut self, places: &[usize]) {
        let batch = self.gather(places);
        let mut flight = self.hybrid.echoes.depart(&batch);
        let origin = Some(flight.origin());
        let stamped: Vec<Event> = batch.iter().map(|event| with_origin(event, origin)).collect();
        let outcome = self.hybrid.remote.publish(&stamped, self.options).await;
        self.hybrid.remote_state.learn(&outcome, places.len());
        let mut accepted = Vec::with_capacity(places.len());
        for index in 0..places.len() {
            match outcome.error(index) {
                None => accepted.push(index),
                Some(error) => flight.land(index, landing_of(error)),
            }
        }
        let redirected = self.settle(places, outcome, falls_back(self.hybrid));
        self.copy_to_subscribers(&batch, &accepted, &mut flight).await;
        self.fall_back(redirected).await;
    }

    /// The remote broker is responsible by now, so a refused copy is no failure of the publish:
    /// broadcast subscribers then keep the remote copy.
    async fn copy_to_subscribers(
        &self,
        batch: &[Event],
        accepted: &[usize],
        flight: &mut Flight<'_>,
    ) {
        if accepted.is_empty() {
            return;
        }
        let copies: Vec<Event> = accepted.iter().map(|&index| batch[index].clone()).collect();
        let options = self.options.clone().with_audience(Audience::BroadcastOnly);
        let outcome = self.hybrid.local.publish(&copies, &options).await;
        for (copy, &index) in accepted.iter().enumerate() {
            let refused = outcome.error(copy).is_some();
            flight.land(index, if refused { Landing::Remote } else { Landing::Both });
        }
        if let Some((_, error)) = outcome.failures().next() {
            let refused = outcome.failures().len();
            self.hybrid.counters.local_copies_refused.add(refused);
            tracing::warn!(
                events = refused,
                %error,
                "the local broker refused copies of events that are routed both ways: broadcast \
                 subscribers get the remote copies"
            );
        }
    }

    /// Sends events that the remote broker certainly did not take to the local one, whole groups
    /// included.
    async fn fall_back(&mut self, redirected: Vec<Redirected>) {
        if redirected.is_empty() {
            return;
        }
        let (places, causes): (Vec<usize>, Vec<Error>) = redirected.into_iter().unzip();
        let batch = self.gather(&places);
        let outcome = self.hybrid.local.publish(&batch, self.options).await;
        let accepted = places.len() - outcome.failures().len();
        self.hybrid.counters.remote_down_local.add(accepted);
        tracing::warn!(
            events = accepted,
            "the remote broker cannot be reached: these events went to the local broker, as \
             `routing.on_remote_down` says, and other processes will not see them"
        );
        for (index, error) in outcome.into_failures() {
            // That nobody local takes the event is not why it failed: the remote broker is down.
            let error = match error.kind() {
                ErrorKind::Unroutable => causes[index].duplicate().with("local fallback", &error),
                _ => error.with("remote side", &causes[index]),
            };
            self.fail(places[index], error);
        }
    }

    /// Notes the failures of an inner batch, save those that may go elsewhere, which are returned in
    /// the order of the batch. What was aborted behind one of these goes with it.
    fn settle(
        &mut self,
        places: &[usize],
        outcome: BatchResult,
        may_go_elsewhere: impl Fn(&Error) -> bool,
    ) -> Vec<Redirected> {
        let mut redirected = Vec::new();
        let mut keys: HashSet<Key<'a>> = HashSet::new();
        for (index, error) in outcome.into_failures() {
            let place = places[index];
            let key = key_of(&self.events[place]);
            let broken = key.is_some_and(|key| self.broken.contains(&key));
            let follows =
                error.kind() == ErrorKind::Aborted && key.is_some_and(|key| keys.contains(&key));
            if !broken && (may_go_elsewhere(&error) || follows) {
                keys.extend(key);
                redirected.push((place, error));
            } else {
                self.fail(place, error);
            }
        }
        redirected
    }

    fn fail(&mut self, place: usize, error: Error) {
        self.broken.extend(key_of(&self.events[place]));
        self.result.fail(place, error);
    }

    /// The places whose key is whole; the others are aborted.
    fn unbroken(&mut self, mut places: Vec<usize>) -> Vec<usize> {
        if self.broken.is_empty() {
            return places;
        }
        places.retain(|&place| {
            let key = key_of(&self.events[place]);
            let whole = key.is_none_or(|key| !self.broken.contains(&key));
            if !whole {
                self.result.fail(place, Error::aborted());
            }
            whole
        });
        places
    }

    fn gather(&self, places: &[usize]) -> Cow<'a, [Event]> {
        if places.len() == self.events.len() {
            return Cow::Borrowed(self.events);
        }
        places.iter().map(|&place| self.events[place].clone()).collect()
    }

    fn count(&self, route: Route, places: &[usize]) {
        let accepted = places.iter().filter(|&&place| self.result.error(place).is_none());
        self.hybrid.counters.accepted(route, accepted.count());
    }
}

/// Whether a remote failure sends the event to the local broker: never when it may have arrived.
fn falls_back(hybrid: &Inner) -> impl Fn(&Error) -> bool + use<> {
    let allowed = hybrid.config.on_remote_down == OnRemoteDown::Local;
    move |error| {
        allowed && error.kind() == ErrorKind::Disconnected && error.retry() == RetryClass::Transient
    }
}

fn landing_of(error: &Error) -> Landing {
    match error.retry() {
        RetryClass::Transient | RetryClass::Permanent | RetryClass::Misuse => Landing::Nowhere,
        RetryClass::Ambiguous | RetryClass::Closed => Landing::Remote,
    }
}

#[expect(clippy::expect_used, reason = "the text is ours: a UUID and a number")]
fn with_origin(event: &Event, origin: Option<&SmolStr>) -> Event {
    event
        .amend(|attributes| attributes.set_origin(origin.cloned()))
        .expect("a UUID, a hyphen and a number hold no control character")
}
