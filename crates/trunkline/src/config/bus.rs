//! `[bus]`: what holds whatever the broker is.

use std::time::Duration;

use super::describe::Page;
use super::read::Section;

/// `[bus]`: the settings of the bus itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusConfig {
    /// Whether there is a bus at all; one that is not enabled accepts nothing and handles nothing.
    pub enabled: bool,
    /// The CloudEvents source of events that have none of their own.
    pub source: Option<String>,
    /// The longest data of an event, in bytes; a longer one is `TooLarge` before any I/O.
    pub max_event_bytes: usize,
    /// How long a publish waits for room in a full buffer, or for the server's answer; absent, as long
    /// as the broker has it, because servers take longer to come back than a buffer to empty.
    pub publish_timeout: Option<Duration>,
    /// How long a close waits for running handlers and their acknowledgements.
    pub close_timeout: Duration,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            source: None,
            // The largest event that every broker carries without a change to its server: the whole
            // of trunkline has this limit.
            max_event_bytes: 4 << 20,
            publish_timeout: None,
            // Orchestrators kill 30 s after they ask: 5 s are left for the rest of the process.
            close_timeout: Duration::from_secs(25),
        }
    }
}

impl BusConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let usual = Self::default();
        let bus = Self {
            enabled: section.boolean("enabled").unwrap_or(usual.enabled),
            source: section.text("source").map(str::to_owned),
            max_event_bytes: section.number("max_event_bytes", 1).unwrap_or(usual.max_event_bytes),
            publish_timeout: section.millis("publish_timeout_ms"),
            close_timeout: section.millis("close_timeout_ms").unwrap_or(usual.close_timeout),
        };
        section.finish();
        bus
    }

    pub(super) fn describe(&self, page: &mut Page) {
        page.header("[bus]");
        page.set("enabled", self.enabled);
        page.set_or_note("source", self.source.clone(), "each event's own");
        page.number("max_event_bytes", self.max_event_bytes);
        page.millis_or_note("publish_timeout_ms", self.publish_timeout, "the broker's default");
        page.millis("close_timeout_ms", self.close_timeout);
    }
}
