//! What a consumer has taken, and when.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{KEYS, Outcome};

/// What a consumer has taken, and when.
#[derive(Debug)]
pub struct Log {
    expected: usize,
    taken: AtomicUsize,
    again: AtomicUsize,
    /// Of each key, one more than the number of the newest message taken.
    newest: Vec<AtomicUsize>,
    began: Instant,
    first: OnceLock<Instant>,
    finished: Mutex<Option<Instant>>,
    /// When each message was published, in nanoseconds after `began`; empty where that is not asked.
    sent: Vec<AtomicU64>,
    waits: Mutex<Vec<Duration>>,
    changed: Notify,
}

impl Log {
    /// Expects so many messages.
    #[must_use]
    pub fn new(expected: usize) -> Self {
        Self {
            expected,
            taken: AtomicUsize::new(0),
            again: AtomicUsize::new(0),
            newest: (0..KEYS).map(|_| AtomicUsize::new(0)).collect(),
            began: Instant::now(),
            first: OnceLock::new(),
            finished: Mutex::default(),
            sent: Vec::new(),
            waits: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Expects so many messages and notes how long each was under way.
    #[must_use]
    pub(super) fn timed(expected: usize) -> Self {
        let sent = (0..expected).map(|_| AtomicU64::new(0)).collect();
        Self { sent, ..Self::new(expected) }
    }

    /// Notes that the message with this number is being published now.
    pub(super) fn send(&self, number: usize) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sent[number].store(now, Ordering::Relaxed);
    }

    /// Notes a message by its payload; whether all have come.
    pub fn take(&self, payload: &[u8]) -> bool {
        let now = Instant::now();
        self.first.get_or_init(|| now);
        let Some(number) = payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
            self.again.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        // Messages of one key come in ascending order, one at a time.
        if self.newest[number % KEYS].fetch_max(number + 1, Ordering::Relaxed) > number {
            self.again.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if let Some(sent) = self.sent.get(number) {
            let sent = Duration::from_nanos(sent.load(Ordering::Relaxed));
            let wait = now.duration_since(self.began).saturating_sub(sent);
            self.waits.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
        }
        let taken = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
        if taken == self.expected || !self.sent.is_empty() {
            self.changed.notify_waiters();
        }
        taken == self.expected
    }

    /// Whether all messages have come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.expected
    }

    /// Waits until all messages have come.
    pub async fn complete(&self) {
        self.reached(self.expected).await;
    }

    /// Waits until so many messages have come.
    pub(super) async fn reached(&self, count: usize) {
        loop {
            let changed = self.changed.notified();
            if self.taken.load(Ordering::Relaxed) >= count {
                return;
            }
            changed.await;
        }
    }

    /// Stops the clock: every acknowledgement has landed.
    pub fn finish(&self) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.get_or_insert_with(Instant::now);
    }

    /// The time from the first message taken to [`Log::finish`].
    pub(super) fn elapsed(&self) -> Outcome<Duration> {
        let again = self.again.load(Ordering::Relaxed);
        if again > 0 {
            return Err(
                format!("{again} messages came again, or out of the order of their key").into()
            );
        }
        let finished = *self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.first.get(), finished) {
            (Some(first), Some(finished)) => Ok(finished.duration_since(*first)),
            _ => Err("the consumer ended before it had taken every message".into()),
        }
    }

    /// How long the messages were under way, shortest first.
    pub(super) fn waits(&self) -> Vec<Duration> {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waits.sort_unstable();
        waits
    }
}
