//! What is known about the remote broker.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use trunkline_core::{BatchResult, ErrorKind};

/// How long a remote broker that was down is taken to be down before a publish asks again: a strategy
/// that looks at its health may send it nothing, and would otherwise never learn that it is back.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Whether the remote broker works, as last seen.
#[derive(Debug)]
pub(crate) struct RemoteState {
    up: AtomicBool,
    born: Instant,
    /// When it was last seen to be down or asked, in milliseconds since `born`.
    checked: AtomicU64,
}

impl RemoteState {
    pub(crate) fn new() -> Self {
        Self { up: AtomicBool::new(true), born: Instant::now(), checked: AtomicU64::new(0) }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Learns from the results of a remote publish of `len` events.
    pub(crate) fn learn(&self, outcome: &BatchResult, len: usize) {
        if outcome.failures().any(|(_, error)| error.kind() == ErrorKind::Disconnected) {
            self.note(false);
        } else if outcome.failures().len() < len {
            self.note(true);
        }
    }

    /// Notes how the remote broker was seen, and logs when that changed.
    pub(crate) fn note(&self, up: bool) {
        if !up {
            self.checked.store(self.elapsed(), Ordering::Relaxed);
        }
        // The load first: a write would move the cache line on every publish.
        if self.is_up() == up || self.up.swap(up, Ordering::Relaxed) == up {
            return;
        }
        if up {
            tracing::info!("the remote broker can be reached again");
        } else {
            tracing::warn!("the remote broker cannot be reached");
        }
    }

    /// Whether a publish should ask the remote broker how it is; true for one caller at a time.
    pub(crate) fn check_is_due(&self) -> bool {
        if self.is_up() {
            return false;
        }
        let (now, last) = (self.elapsed(), self.checked.load(Ordering::Relaxed));
        now.saturating_sub(last) >= millis(CHECK_EVERY)
            && self
                .checked
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn elapsed(&self) -> u64 {
        millis(self.born.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
