//! The settings of the SQLite store.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// What an acknowledged append survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// The loss of power: every commit waits for the disk.
    #[default]
    Full,
    /// The death of the process; the last commits may be lost with the power. Several times faster.
    Normal,
}

/// The settings of a [`crate::SqliteStore`]; the default keeps everything.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// How long an event is kept, from its append and not from its `time`; absent keeps it for ever.
    pub ttl: Option<Duration>,
    /// The newest events of a stream that are kept, at least 1; absent keeps all.
    pub max_events_per_stream: Option<usize>,
    /// What an acknowledged append survives.
    pub synchronous: Synchronous,
    /// How long to wait while another process writes.
    pub busy_timeout: Duration,
    /// How many reads run at a time; 0 counts as 1.
    pub readers: u32,
    /// How often a waiting reader looks for what another process wrote.
    pub poll_interval: Duration,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            ttl: None,
            max_events_per_stream: None,
            // An append is durable when it returns; who can lose a second says so.
            synchronous: Synchronous::Full,
            // Longer than any batch takes to write, shorter than a client's usual 10 s limit.
            busy_timeout: Duration::from_secs(5),
            // A reader is a thread and at most 2 MB of cache; more than four seldom read at once.
            readers: 4,
            // One look is a lookup of some 50 µs: ten a second cost nothing, and people do not see
            // a tenth of a second.
            poll_interval: Duration::from_millis(100),
        }
    }
}

impl SqliteConfig {
    /// Keeps an event for `ttl` after its append.
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Keeps the newest `max` events of a stream.
    #[must_use]
    pub fn with_max_events_per_stream(mut self, max: impl Into<Option<usize>>) -> Self {
        self.max_events_per_stream = max.into();
        self
    }

    /// Sets what an acknowledged append survives.
    #[must_use]
    pub fn with_synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Sets how long to wait while another process writes.
    #[must_use]
    pub fn with_busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Sets how many reads run at a time.
    #[must_use]
    pub fn with_readers(mut self, readers: u32) -> Self {
        self.readers = readers;
        self
    }

    /// Sets how often a waiting reader looks for what another process wrote.
    #[must_use]
    pub fn with_poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// The time, in microseconds, at or before which what was recorded has expired by `now`.
    pub(super) fn expired_at(&self, now: Timestamp) -> i64 {
        let ttl = self.ttl.map(SignedDuration::try_from);
        let since = match ttl {
            Some(Ok(ttl)) => now.checked_sub(ttl).ok(),
            // Absent, or longer than time itself.
            Some(Err(_)) | None => None,
        };
        since.map_or(i64::MIN, Timestamp::as_microsecond)
    }
}
