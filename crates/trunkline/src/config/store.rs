//! `[store]`: what keeps the events.

use std::time::Duration;

use super::describe::Page;
use super::read::{Choice, Section};
use super::url::Url;

/// `[store]`: what keeps the events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreConfig {
    /// `type = "none"`: nothing, because a store that nobody asked for grows unseen.
    #[default]
    None,
    /// `type = "memory"`: events are kept as long as this process lives.
    Memory(RetentionConfig),
    /// `type = "sqlite"`: events are kept in a file.
    Sqlite(SqliteConfig),
}

/// `type = "sqlite"`: a store in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The file, such as `sqlite://trunkline.db`, or `sqlite::memory:`.
    pub url: Url,
    /// What the store may forget.
    pub retention: RetentionConfig,
}

impl SqliteConfig {
    /// A store at `url` that forgets nothing.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, retention: RetentionConfig::default() }
    }
}

/// What a store may forget; the default is nothing, because events cannot be had back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetentionConfig {
    /// `ttl_seconds`: how long an event is kept after its append; absent, for ever.
    pub ttl: Option<Duration>,
    /// How many of its newest events a stream keeps; absent, all.
    pub max_events_per_stream: Option<u64>,
}

#[derive(Clone, Copy)]
enum Kind {
    None,
    Memory,
    Sqlite,
}

/// The words of `store.type`; what has no kind is a store that this version lacks.
const KINDS: [Choice<Kind>; 5] = [
    ("none", Some(Kind::None)),
    ("memory", Some(Kind::Memory)),
    ("redis", None),
    ("postgres", None),
    ("sqlite", Some(Kind::Sqlite)),
];

impl StoreConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        if let Some(guarantee) = section.get("guarantee") {
            let why = "the guarantee `outbox` is not available in this version: remove the key";
            guarantee.wrong(why);
        }
        let kind = match section.get("type") {
            Some(item) => item.choice("store type", &KINDS),
            None => {
                section.missing("type", "say which store: `none`, `memory` or `sqlite`");
                None
            }
        };
        match kind {
            Some(Kind::None) => {
                let keys = &["url", "ttl_seconds", "max_events_per_stream"];
                section.foreign(keys, "does not belong to `type = \"none\"`, which keeps nothing");
                section.finish();
                Self::None
            }
            Some(Kind::Memory) => {
                let why = "does not belong to `type = \"memory\"`, which has no server";
                section.foreign(&["url"], why);
                Self::Memory(RetentionConfig::read(section))
            }
            Some(Kind::Sqlite) => Self::read_sqlite(section),
            None => Self::None,
        }
    }

    fn read_sqlite(mut section: Section<'_>) -> Self {
        let url = section.get("url");
        if url.is_none() {
            section.missing("url", "a sqlite store needs its file: `url = \"sqlite://events.db\"`");
        }
        let url = url.and_then(|item| item.url(&["sqlite"]));
        let retention = RetentionConfig::read(section);
        // Without a URL a problem is noted, and the whole configuration is refused.
        url.map_or(Self::None, |url| Self::Sqlite(SqliteConfig { url, retention }))
    }

    pub(super) fn describe(&self, page: &mut Page) {
        page.header("[store]");
        match self {
            Self::None => page.set("type", "none"),
            Self::Memory(retention) => {
                page.set("type", "memory");
                retention.describe(page);
            }
            Self::Sqlite(sqlite) => {
                page.set("type", "sqlite");
                page.set("url", sqlite.url.to_string());
                sqlite.retention.describe(page);
            }
        }
    }
}

impl RetentionConfig {
    fn read(mut section: Section<'_>) -> Self {
        let retention = Self {
            ttl: section.number("ttl_seconds", 1).map(Duration::from_secs),
            max_events_per_stream: section.number("max_events_per_stream", 1),
        };
        section.finish();
        retention
    }

    fn describe(&self, page: &mut Page) {
        page.number_or_note("ttl_seconds", self.ttl.map(|ttl| ttl.as_secs()), "for ever");
        page.number_or_note("max_events_per_stream", self.max_events_per_stream, "all");
    }
}
