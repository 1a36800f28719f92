//! The settings of the memory broker.

use std::time::Duration;

/// The settings of a [`crate::MemoryBroker`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// Undelivered events that a group or subscriber keeps where its options do not say.
    pub buffer: usize,
    /// How long a publish waits for room where its options do not say.
    pub publish_timeout: Duration,
    /// The newest events that are kept for groups made later; 0 keeps none.
    pub history: usize,
    /// The longest data of an event, in bytes; only data that is bytes already is measured.
    pub max_event_bytes: usize,
    /// Dead letters that are kept; a full log leaves further events unacknowledged.
    pub max_dead_letters: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            // At 300 bytes an event 10,000 are 3 MB: room for a burst, and small when stuck.
            buffer: 10_000,
            // Longer than a garbage-collecting or swapping consumer stalls, shorter than a client's
            // usual 10 s limit.
            publish_timeout: Duration::from_secs(5),
            history: 0,
            // The limit of the whole system, `bus.max_event_bytes`.
            max_event_bytes: 4 << 20,
            // A person reads them; ten thousand is more than anyone does.
            max_dead_letters: 10_000,
        }
    }
}

impl MemoryConfig {
    /// Sets how many undelivered events a group or subscriber keeps.
    #[must_use]
    pub fn with_buffer(mut self, buffer: usize) -> Self {
        self.buffer = buffer;
        self
    }

    /// Sets how long a publish waits for room.
    #[must_use]
    pub fn with_publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// Keeps the newest `events` for groups made later.
    #[must_use]
    pub fn with_history(mut self, events: usize) -> Self {
        self.history = events;
        self
    }

    /// Sets the longest data of an event, in bytes.
    #[must_use]
    pub fn with_max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Sets how many dead letters are kept.
    #[must_use]
    pub fn with_max_dead_letters(mut self, letters: usize) -> Self {
        self.max_dead_letters = letters;
        self
    }
}
