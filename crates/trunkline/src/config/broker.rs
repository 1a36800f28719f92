//! `[broker]`: what moves the events.

use super::describe::Page;
use super::read::{Choice, Section};

/// `[broker]`: what moves the events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerConfig {
    /// One broker takes every event.
    Single(BackendConfig),
    /// `type = "hybrid"`: `[routing]` decides which of two brokers takes an event.
    Hybrid(HybridConfig),
}

/// One broker that is no hybrid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendConfig {
    /// `type = "memory"`: events stay in this process.
    Memory(MemoryConfig),
}

/// `type = "memory"`: the settings of a broker within this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// How many of the newest events are kept for groups made later; 0, the default, keeps none,
    /// because memory that nobody asked for is a leak.
    pub history: usize,
    /// Undelivered events that a group or subscriber keeps where its channel does not say; absent,
    /// the broker's own default holds.
    pub buffer_size: Option<usize>,
}

/// The two brokers of a hybrid; the default is two in-memory ones, for trying routes out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HybridConfig {
    /// `[broker.local]`: the broker within this process.
    pub local: BackendConfig,
    /// `[broker.remote]`: the broker between processes.
    pub remote: BackendConfig,
}

impl Default for BackendConfig {
    fn default() -> Self {
        Self::Memory(MemoryConfig::default())
    }
}

impl Default for BrokerConfig {
    /// A broker in memory: the one that needs no server.
    fn default() -> Self {
        Self::Single(BackendConfig::default())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Memory,
    Hybrid,
}

/// The words of `broker.type`; what has no kind is a backend that this version lacks.
const KINDS: [Choice<Kind>; 5] = [
    ("memory", Some(Kind::Memory)),
    ("redis", None),
    ("kafka", None),
    ("rabbitmq", None),
    ("hybrid", Some(Kind::Hybrid)),
];

/// The words for one side of a hybrid: those of a broker, less the hybrid itself.
const SIDES: &[Choice<Kind>] = KINDS.split_at(4).0;

const WHAT: &str = "broker type";

impl BrokerConfig {
    /// The broker; nothing when its type is wrong, so that nothing is inferred from it.
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let Some(item) = section.get("type") else {
            section.missing("type", "say what takes the events: `memory` or `hybrid`");
            return None;
        };
        match item.choice(WHAT, &KINDS)? {
            Kind::Memory => {
                section.foreign(&["local", "remote"], "belongs to `type = \"hybrid\"`");
                Some(Self::Single(BackendConfig::Memory(MemoryConfig::read(section))))
            }
            Kind::Hybrid => Some(Self::Hybrid(HybridConfig::read(section))),
        }
    }

    pub(super) fn describe(&self, page: &mut Page) {
        match self {
            Self::Single(backend) => backend.describe("[broker]", page),
            Self::Hybrid(hybrid) => {
                page.header("[broker]");
                page.set("type", "hybrid");
                hybrid.local.describe("[broker.local]", page);
                hybrid.remote.describe("[broker.remote]", page);
            }
        }
    }
}

impl HybridConfig {
    fn read(mut section: Section<'_>) -> Self {
        section.foreign(
            &["url", "history", "buffer_size"],
            "belongs to one of the two brokers: write it in `[broker.local]` or `[broker.remote]`",
        );
        let local = section.section("local").and_then(BackendConfig::read);
        let remote = match section.get("remote") {
            Some(item) => item.section().and_then(BackendConfig::read_remote),
            None => {
                section.missing("remote", "a hybrid needs `[broker.remote]` with its `type`");
                None
            }
        };
        section.finish();
        // Where a side is wrong a problem is noted, and the whole configuration is refused.
        Self { local: local.unwrap_or_default(), remote: remote.unwrap_or_default() }
    }
}

impl BackendConfig {
    /// The remote broker says its type: one in memory is seldom what is meant.
    fn read_remote(mut section: Section<'_>) -> Option<Self> {
        if section.get("type").is_none() {
            section.missing("type", "say what the remote broker is, such as `memory`");
            return None;
        }
        Self::read(section)
    }

    fn read(mut section: Section<'_>) -> Option<Self> {
        if let Some(item) = section.get("type") {
            if item.is_text("hybrid") {
                item.wrong("a hybrid within a hybrid is not possible");
                return None;
            }
            item.choice(WHAT, SIDES)?;
        }
        section.foreign(&["local", "remote"], "belongs to a hybrid in `[broker]`");
        Some(Self::Memory(MemoryConfig::read(section)))
    }

    fn describe(&self, header: &str, page: &mut Page) {
        let Self::Memory(memory) = self;
        page.header(header);
        page.set("type", "memory");
        page.number("history", memory.history);
        page.number_or_note("buffer_size", memory.buffer_size, "the broker's default");
    }
}

impl MemoryConfig {
    fn read(mut section: Section<'_>) -> Self {
        section.foreign(&["url"], "does not belong to `type = \"memory\"`, which has no server");
        let memory = Self {
            history: section.number("history", 0).unwrap_or_default(),
            buffer_size: section.number("buffer_size", 1),
        };
        section.finish();
        memory
    }
}
