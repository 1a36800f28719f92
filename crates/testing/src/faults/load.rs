//! Publishers that go on whatever happens to the server.

use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{Broker, Event, PublishOptions, RetryClass, Topic};

use crate::broker::{Subject, spread};
use crate::failure::{Check, Failure};

/// How long a publisher tries: longer than any server needs to come back.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long it waits before it tries again.
const AGAIN: Duration = Duration::from_millis(50);

/// Publishes until all is accepted: what failed and may be tried again is, with the same ids.
pub(super) async fn publish_all<B: Broker>(subject: &Subject<B>, events: &[Event]) -> Check {
    let deadline = Instant::now() + PATIENCE;
    let mut left = events.to_vec();
    loop {
        let result = subject.broker.publish(&left, &PublishOptions::default()).await;
        let mut failed = Vec::new();
        for (place, error) in result.failures() {
            let may_help = matches!(error.retry(), RetryClass::Transient | RetryClass::Ambiguous);
            if !may_help || Instant::now() > deadline {
                return Err(error.duplicate().into());
            }
            failed.push(left[place].clone());
        }
        if failed.is_empty() {
            return Ok(());
        }
        left = failed;
        tokio::time::sleep(AGAIN).await;
    }
}

/// A flow of events: `count` of `keys` keys in turn, in batches, at about this many a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub(super) keys: u64,
    pub(super) count: u64,
    pub(super) per_second: u64,
}

impl Flow {
    /// Publishes it all, each batch until it is accepted.
    pub(super) async fn publish<B: Broker>(self, subject: &Subject<B>, topic: &Topic) -> Check {
        const BATCH: u64 = 20;
        let begun = Instant::now();
        for first in (0..self.count).step_by(20) {
            let numbers = first..(first + BATCH).min(self.count);
            let due = Duration::from_micros(first * 1_000_000 / self.per_second);
            tokio::time::sleep_until(begun + due).await;
            publish_all(subject, &spread(topic, self.keys, numbers)?).await.map_err(|failure| {
                Failure::new(format!("the batch from number {first} on: {failure}"))
            })?;
        }
        Ok(())
    }
}
