//! What members ran, and whether that is what was promised.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::failure::{Check, Failure, ensure};
use crate::member::{Line, Report, Reports};

/// One run of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    member: usize,
    attempt: u32,
    /// In microseconds of the clock that all processes of a machine share.
    began: u64,
    ended: Option<u64>,
}

/// The runs of every event, by its number: number n has the key `key-<n modulo keys>`.
#[derive(Debug)]
pub(super) struct Ledger {
    keys: u64,
    runs: BTreeMap<u64, Vec<Run>>,
}

impl Ledger {
    pub(super) fn of_keys(keys: u64) -> Self {
        Self { keys, runs: BTreeMap::new() }
    }

    pub(super) fn note(&mut self, report: &Report) {
        let Line::Run { starts, number, attempt, micros, .. } = &report.line else { return };
        let runs = self.runs.entry(*number).or_default();
        if *starts {
            let (member, attempt) = (report.member, *attempt);
            runs.push(Run { member, attempt, began: *micros, ended: None });
            return;
        }
        let open =
            runs.iter_mut().rev().find(|run| run.member == report.member && run.ended.is_none());
        if let Some(run) = open {
            run.ended = Some(*micros);
        }
    }

    /// How many different events have been handled to the end.
    pub(super) fn handled(&self) -> u64 {
        let done = |runs: &&Vec<Run>| runs.iter().any(|run| run.ended.is_some());
        self.runs.values().filter(done).count() as u64
    }

    /// Reads what members print until `count` different events are handled.
    pub(super) async fn until_handled(
        &mut self,
        reports: &mut Reports,
        count: u64,
        limit: Duration,
    ) -> Check {
        let deadline = tokio::time::Instant::now() + limit;
        while self.handled() < count {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let Some(report) = reports.next_within(left).await? else {
                let missing = (0..).find(|at| !self.runs.contains_key(at)).unwrap_or_default();
                let handled = self.handled();
                return Err(Failure::new(format!(
                    "{handled} of {count} events were handled within {limit:?}; the first that was \
                     not even begun is number {missing}"
                )));
            };
            self.note(&report);
        }
        Ok(())
    }

    /// How many runs were made of events that had been begun before in the same attempt.
    pub(super) fn duplicates(&self) -> u64 {
        let again = |runs: &Vec<Run>| {
            let mut attempts: Vec<u32> = runs.iter().map(|run| run.attempt).collect();
            attempts.sort_unstable();
            attempts.dedup();
            (runs.len() - attempts.len()) as u64
        };
        self.runs.values().map(again).sum()
    }

    /// Fails unless the first runs of the events of each key began in their order.
    pub(super) fn ensure_order(&self) -> Check {
        let mut latest: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (number, runs) in &self.runs {
            let Some(began) = runs.iter().map(|run| run.began).min() else { continue };
            let key = number % self.keys;
            if let Some((before, at)) = latest.insert(key, (*number, began)) {
                let late = at.saturating_sub(began);
                ensure!(
                    at <= began,
                    "number {number} of key-{key} was begun {late} us before number {before}"
                );
            }
        }
        Ok(())
    }

    /// Fails when two runs of one key were under way at the same time.
    pub(super) fn ensure_no_overlap(&self) -> Check {
        let mut by_key: BTreeMap<u64, Vec<(u64, u64, u64)>> = BTreeMap::new();
        for (number, runs) in &self.runs {
            for run in runs {
                let ended = run.ended.unwrap_or(run.began);
                by_key.entry(number % self.keys).or_default().push((run.began, ended, *number));
            }
        }
        for (key, mut spans) in by_key {
            spans.sort_unstable();
            for pair in spans.windows(2) {
                let [(_, ended, one), (began, _, two)] = [pair[0], pair[1]];
                ensure!(
                    ended <= began,
                    "numbers {one} and {two} of key-{key} ran at the same time for {} us",
                    ended - began
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(member: usize, text: &str) -> Report {
        Report { member, line: Line::parse(text).unwrap() }
    }

    fn ledger(lines: &[(usize, &str)]) -> Ledger {
        let mut ledger = Ledger::of_keys(2);
        lines.iter().for_each(|(member, line)| ledger.note(&report(*member, line)));
        ledger
    }

    #[test]
    fn runs_one_after_the_other_are_fine_and_a_second_attempt_is_no_duplicate() {
        let ledger = ledger(&[
            (0, "start t k 0 1 10"),
            (0, "end t k 0 1 20"),
            (1, "start t k 0 2 30"),
            (1, "end t k 0 2 40"),
            (1, "start t k 2 1 41"),
            (1, "end t k 2 1 50"),
        ]);
        assert_eq!((ledger.handled(), ledger.duplicates()), (2, 0));
        ledger.ensure_order().unwrap();
        ledger.ensure_no_overlap().unwrap();
    }

    #[test]
    fn overlap_disorder_and_duplicates_are_found() {
        let ledger = ledger(&[
            (0, "start t k 2 1 10"),
            (1, "start t k 0 1 15"),
            (0, "end t k 2 1 20"),
            (1, "end t k 0 1 21"),
            (1, "start t k 2 1 30"),
        ]);
        assert_eq!(ledger.duplicates(), 1);
        assert!(ledger.ensure_order().is_err());
        assert!(ledger.ensure_no_overlap().is_err());
    }
}
