//! Publishing a batch until every event of it is accepted or refused.

use std::time::Instant;

use trunkline::{Event, EventBus, RetryClass};

use super::{FIRST_WAIT, LONGEST_WAIT, PATIENCE};
use crate::interrupt::Interrupt;
use crate::terminal::Chain;

/// Events that are published together, each with the line that it came from.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<u64>,
    pub(super) events: Vec<Event>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many events were accepted.
    pub(super) accepted: u64,
    /// The lines that were refused, with the reason.
    pub(super) refused: Vec<(u64, String)>,
    /// Why the rest was given up; publishing does not work any more.
    pub(super) given_up: Option<String>,
}

impl Batch {
    pub(super) fn add(&mut self, line: u64, event: Event) {
        self.lines.push(line);
        self.events.push(event);
    }

    /// Publishes; what fails for a reason that may pass, or with an unknown outcome, is tried again
    /// with the same id. The order of a key is kept: what comes after a failed event of its key was
    /// not attempted, and is tried again with it.
    pub(super) async fn publish(mut self, bus: &EventBus, interrupt: &Interrupt) -> Outcome {
        let mut outcome = Outcome::default();
        let (began, mut wait) = (Instant::now(), FIRST_WAIT);
        loop {
            let result = bus.publish_many(&self.events).await;
            outcome.accepted += (self.events.len() - result.failures().len()) as u64;
            let mut again = Self::default();
            let mut reason = None;
            for (index, error) in result.failures() {
                let line = self.lines[index];
                match error.retry() {
                    RetryClass::Permanent | RetryClass::Misuse => {
                        outcome.refused.push((line, Chain(error).to_string()));
                    }
                    RetryClass::Closed => outcome.given_up = Some(Chain(error).to_string()),
                    RetryClass::Transient | RetryClass::Ambiguous => {
                        reason.get_or_insert_with(|| Chain(error).to_string());
                        again.add(line, self.events[index].clone());
                    }
                }
            }
            let Some(reason) = reason else { return outcome };
            if began.elapsed() > PATIENCE {
                outcome.given_up = Some(reason);
            }
            if outcome.given_up.is_some() {
                return outcome;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = interrupt.insisted() => {
                    outcome.given_up = Some("interrupted".to_owned());
                    return outcome;
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            self = again;
        }
    }
}
