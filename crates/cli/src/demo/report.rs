//! What happened in a run, as numbers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use trunkline::Route;

use super::consumers::Party;
use super::ledger::{Timing, Totals};
use super::readback::ReadBack;
use crate::exit::Exit;

/// What happened in a run: the object that `--json` prints.
///
/// Scripts rely on the names; more may be added.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) broker: String,
    pub(super) store: String,
    /// Events that the broker accepted.
    pub(super) published: u64,
    /// Input lines that were left out.
    pub(super) rejected: u64,
    #[serde(flatten)]
    pub(super) routed: Routed,
    /// Distinct events handled, by group or broadcast subscriber.
    pub(super) handled: BTreeMap<String, u64>,
    #[serde(flatten)]
    pub(super) read_back: ReadBackCounts,
    #[serde(flatten)]
    pub(super) faults: Faults,
    pub(super) dead_lettered: u64,
    /// First publish to last settlement.
    pub(super) events_per_s: f64,
    /// Publish call to first handler entry, in microseconds.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Whether somebody stopped the run early.
    pub(super) interrupted: bool,
    /// What the report for people says beside that.
    #[serde(skip)]
    pub(super) details: Details,
}

/// How many published events took each route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Routed {
    pub(super) routed_local: u64,
    pub(super) routed_remote: u64,
    pub(super) routed_both: u64,
}

impl Routed {
    /// Everything by the one route there is.
    pub(super) fn all(route: Route, events: u64) -> Self {
        let mut routed = Self::default();
        match route {
            Route::Local => routed.routed_local = events,
            Route::Remote => routed.routed_remote = events,
            Route::Both => routed.routed_both = events,
        }
        routed
    }
}

/// Distinct events of the run that the store gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct ReadBackCounts {
    pub(super) stored: u64,
    pub(super) replayed: u64,
}

impl From<ReadBack> for ReadBackCounts {
    fn from(read: ReadBack) -> Self {
        Self { stored: read.stored, replayed: read.replayed }
    }
}

/// What must not happen, summed over the groups and the broadcast subscriber.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
}

/// What only the report for people says.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) source: String,
    /// The local and the remote side of a hybrid.
    pub(super) sides: Option<(String, String)>,
    /// Whether the store is a file that is gone when the run is over.
    pub(super) temporary: bool,
    pub(super) parties: Vec<(Party, Totals)>,
    /// Type, topic, route and number of the events published.
    pub(super) kinds: Vec<(String, String, Route, u64)>,
    /// Whether something went wrong that has been said on standard error.
    pub(super) troubled: bool,
}

impl Report {
    /// Takes over who handled what.
    pub(super) fn count(&mut self, parties: impl IntoIterator<Item = (Party, Totals)>) {
        for (party, totals) in parties {
            self.handled.insert(party.name.clone(), totals.handled);
            self.faults.lost += totals.lost;
            self.faults.duplicates += totals.duplicates;
            self.faults.out_of_order += totals.out_of_order;
            self.dead_lettered += totals.dead_lettered;
            self.details.parties.push((party, totals));
        }
    }

    /// Takes over what was measured, up to the last settlement.
    pub(super) fn time(&mut self, timing: &Timing, last_settled: Instant) {
        let elapsed =
            timing.first_publish.map(|first| last_settled.saturating_duration_since(first));
        let seconds = elapsed.unwrap_or_default().as_secs_f64();
        if seconds > 0.0 {
            // Far fewer events than a float counts exactly.
            self.events_per_s = tenths(timing.latencies.len() as f64 / seconds);
        }
        self.p50_us = micros(percentile(&timing.latencies, 50));
        self.p99_us = micros(percentile(&timing.latencies, 99));
    }

    /// How the program is to end.
    pub(super) fn exit(&self) -> Exit {
        if self.faults != Faults::default() || self.details.troubled {
            Exit::Failed
        } else if self.interrupted {
            Exit::Interrupted
        } else if self.rejected > 0 {
            Exit::Rejected
        } else {
            Exit::Fine
        }
    }
}

/// The nearest-rank percentile of values in ascending order; zero where there are none.
fn percentile(ascending: &[Duration], percent: usize) -> Duration {
    let rank = (ascending.len() * percent).div_ceil(100);
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    tenths(time.as_secs_f64() * 1e6)
}

/// Rounds to what the clock can tell.
fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let millis: Vec<_> = (1..=10).map(Duration::from_millis).collect();
        assert_eq!(percentile(&millis, 50), Duration::from_millis(5));
        assert_eq!(percentile(&millis, 99), Duration::from_millis(10));
        assert_eq!(percentile(&millis[..1], 50), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn a_fault_outweighs_an_interrupt_and_both_a_rejected_line() {
        let mut report = Report::default();
        assert_eq!(report.exit(), Exit::Fine);
        report.rejected = 1;
        assert_eq!(report.exit(), Exit::Rejected);
        report.interrupted = true;
        assert_eq!(report.exit(), Exit::Interrupted);
        report.faults.duplicates = 1;
        assert_eq!(report.exit(), Exit::Failed);
    }

    #[test]
    fn the_object_has_every_name_that_scripts_rely_on() {
        let value = serde_json::to_value(Report::default()).unwrap();
        for name in [
            "broker",
            "store",
            "published",
            "rejected",
            "routed_local",
            "routed_remote",
            "handled",
            "stored",
            "replayed",
            "lost",
            "duplicates",
            "out_of_order",
            "dead_lettered",
            "events_per_s",
            "p50_us",
            "p99_us",
        ] {
            assert!(value.get(name).is_some(), "{name}");
        }
    }
}
