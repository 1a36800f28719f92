//! `channels.<name>.retry`: how a failed run is repeated.

use std::time::Duration;

use trunkline_bus::Backoff;

use super::describe::Page;
use super::read::{Choice, Section};

/// `retry`: how a failed run is repeated before its event is dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// How many runs there are in all, the first included.
    pub attempts: u32,
    /// How the waits between runs grow.
    pub backoff: Backoff,
    /// The wait before the second run.
    pub initial_delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// Whether waits are varied at random, so that what failed together does not return together.
    pub jitter: bool,
}

const BACKOFFS: [Choice<Backoff>; 3] = [
    ("fixed", Some(Backoff::Fixed)),
    ("linear", Some(Backoff::Linear)),
    ("exponential", Some(Backoff::Exponential)),
];

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            // One run, one against a glitch, one against a restart; what fails thrice fails again.
            attempts: 3,
            backoff: Backoff::default(),
            // Longer than a lost packet takes to be sent again, too short for a person to notice.
            initial_delay: Duration::from_millis(100),
            // A key waits behind its failed event: what takes longer belongs to the dead letters.
            max_delay: Duration::from_secs(5),
            jitter: true,
        }
    }
}

impl RetryConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        for key in ["delay_ms", "immediate"] {
            if let Some(item) = section.get(key) {
                let what = "delayed redelivery is not available in this version";
                item.wrong(format!("{what}; every retry is immediate: remove `{key}`"));
            }
        }
        let usual = Self::default();
        let retry = Self {
            attempts: section.number("attempts", 1).unwrap_or(usual.attempts),
            backoff: section.choice("backoff", "backoff", &BACKOFFS).unwrap_or_default(),
            initial_delay: section.millis("initial_delay_ms").unwrap_or(usual.initial_delay),
            max_delay: section.millis("max_delay_ms").unwrap_or(usual.max_delay),
            jitter: section.boolean("jitter").unwrap_or(usual.jitter),
        };
        if retry.max_delay < retry.initial_delay {
            let why = "the longest wait is shorter than the first: raise it, or lower \
                       `initial_delay_ms`";
            section.wrong("max_delay_ms", why);
        }
        section.finish();
        retry
    }

    pub(super) fn describe(&self, page: &mut Page) {
        let mut inline = Page::new();
        inline.number("attempts", self.attempts);
        inline.choice("backoff", self.backoff, &BACKOFFS);
        inline.millis("initial_delay_ms", self.initial_delay);
        inline.millis("max_delay_ms", self.max_delay);
        inline.set("jitter", self.jitter);
        page.table("retry", &inline);
    }
}
