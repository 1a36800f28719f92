//! The settings of the memory store.

use std::time::Duration;

/// The settings of a [`crate::MemoryStore`]; the default keeps everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStoreConfig {
    /// How long an event is kept, from its append and not from its `time`; absent keeps it for ever.
    pub ttl: Option<Duration>,
    /// The newest events of a stream that are kept, at least 1; absent keeps all.
    pub max_events_per_stream: Option<usize>,
}

impl MemoryStoreConfig {
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
}
