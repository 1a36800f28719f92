//! Counters, and a snapshot of them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// A counter that nobody waits for.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of publishing; on a cache line of their own, apart from what handlers count.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct PublishCounters {
    pub(crate) published: Counter,
    pub(crate) rejected: Counter,
    pub(crate) stored: Counter,
}

/// Counters of one consumer, written by its workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ConsumerCounters {
    pub(crate) delivered: Counter,
    pub(crate) handled: Counter,
    pub(crate) failed: Counter,
    pub(crate) retried: Counter,
    pub(crate) panicked: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) unhandled: Counter,
    pub(crate) settle_failed: Counter,
    pub(crate) revoked: Counter,
}

/// What a bus has done since it started; each number only grows, save those in flight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Events that the broker accepted.
    pub published: u64,
    /// Events that were refused on the way to acceptance.
    pub rejected: u64,
    /// Events that the store appended, or had already.
    pub stored: u64,
    /// One entry for each name of a consumer, over all its members, those that have left included; in
    /// the order of their first subscription.
    pub consumers: Vec<ConsumerMetrics>,
}

/// What the consumers of one name have done since the bus started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsumerMetrics {
    /// The consumer's name: its group's, unless it was given one.
    pub name: String,
    /// Deliveries that came from the broker.
    pub delivered: u64,
    /// Events whose handler succeeded.
    pub handled: u64,
    /// Attempts that ended in an error, a panic or a time-out.
    pub failed: u64,
    /// Attempts after the first.
    pub retried: u64,
    /// Attempts that ended in a panic.
    pub panicked: u64,
    /// Attempts that ended in a time-out.
    pub timed_out: u64,
    /// Events that were moved to the dead letters.
    pub dead_lettered: u64,
    /// Events that no handler of the group takes.
    pub unhandled: u64,
    /// Settlements that the broker refused.
    pub settle_failed: u64,
    /// Events that were given up before they were handled, or whose handler was cancelled, because
    /// another member may have them by now; no attempt is counted for them.
    pub revoked: u64,
    /// Events that are with a handler now.
    pub in_flight: u64,
}

impl ConsumerMetrics {
    /// Adds what another member of the same name has done.
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.delivered, other.delivered),
            (&mut self.handled, other.handled),
            (&mut self.failed, other.failed),
            (&mut self.retried, other.retried),
            (&mut self.panicked, other.panicked),
            (&mut self.timed_out, other.timed_out),
            (&mut self.dead_lettered, other.dead_lettered),
            (&mut self.unhandled, other.unhandled),
            (&mut self.settle_failed, other.settle_failed),
            (&mut self.revoked, other.revoked),
            (&mut self.in_flight, other.in_flight),
        ];
        for (own, more) in pairs {
            *own += more;
        }
    }
}

impl ConsumerCounters {
    pub(crate) fn snapshot(&self, name: &str, in_flight: u64) -> ConsumerMetrics {
        ConsumerMetrics {
            name: name.to_owned(),
            delivered: self.delivered.get(),
            handled: self.handled.get(),
            failed: self.failed.get(),
            retried: self.retried.get(),
            panicked: self.panicked.get(),
            timed_out: self.timed_out.get(),
            dead_lettered: self.dead_lettered.get(),
            unhandled: self.unhandled.get(),
            settle_failed: self.settle_failed.get(),
            revoked: self.revoked.get(),
            in_flight,
        }
    }
}
