//! `[broker]`: what moves the events.

use super::describe::Page;
use super::kafka::KafkaConfig;
use super::rabbitmq::RabbitMqConfig;
use super::read::{Choice, Section};
use super::redis::RedisConfig;

/// `[broker]`: what moves the events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a program has one, and a box would be in every match"
)]
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
    /// `type = "redis"`: events travel over Redis Streams.
    Redis(RedisConfig),
    /// `type = "kafka"`: events travel over Apache Kafka.
    Kafka(KafkaConfig),
    /// `type = "rabbitmq"`: events travel over RabbitMQ.
    RabbitMq(RabbitMqConfig),
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
    Hybrid,
    Backend(BackendKind),
}

#[derive(Clone, Copy)]
enum BackendKind {
    Memory,
    Redis,
    Kafka,
    RabbitMq,
}

/// The words of `broker.type`.
const KINDS: [Choice<Kind>; 5] = [
    ("memory", Some(Kind::Backend(BackendKind::Memory))),
    ("redis", Some(Kind::Backend(BackendKind::Redis))),
    ("kafka", Some(Kind::Backend(BackendKind::Kafka))),
    ("rabbitmq", Some(Kind::Backend(BackendKind::RabbitMq))),
    ("hybrid", Some(Kind::Hybrid)),
];

/// The words for the remote side of a hybrid: those of a broker, less the hybrid itself.
const REMOTE: [Choice<BackendKind>; 4] = [
    ("memory", Some(BackendKind::Memory)),
    ("redis", Some(BackendKind::Redis)),
    ("kafka", Some(BackendKind::Kafka)),
    ("rabbitmq", Some(BackendKind::RabbitMq)),
];

/// The words for the local side, which lives in this process.
const LOCAL: [Choice<BackendKind>; 1] = [("memory", Some(BackendKind::Memory))];

const WHAT: &str = "broker type";

/// What is most likely written beside `type = "hybrid"` and belongs to one of its brokers.
const OF_A_SIDE: &[&str] =
    &["url", "prefix", "connect_timeout_ms", "history", "buffer_size", "properties", "exchange"];

impl BrokerConfig {
    /// The broker; nothing when its type is wrong, so that nothing is inferred from it.
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let Some(item) = section.get("type") else {
            let kinds = "`memory`, `redis`, `kafka`, `rabbitmq` or `hybrid`";
            section.missing("type", &format!("say what takes the events: {kinds}"));
            return None;
        };
        match item.choice(WHAT, &KINDS)? {
            Kind::Hybrid => HybridConfig::read(section).map(Self::Hybrid),
            Kind::Backend(kind) => {
                section.foreign(&["local", "remote"], "belongs to `type = \"hybrid\"`");
                Some(Self::Single(BackendConfig::read_as(kind, section)))
            }
        }
    }

    /// The broker that reaches other processes: the only one, or the remote side of a hybrid.
    #[must_use]
    pub fn outer(&self) -> &BackendConfig {
        match self {
            Self::Single(backend) => backend,
            Self::Hybrid(hybrid) => &hybrid.remote,
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
    fn read(mut section: Section<'_>) -> Option<Self> {
        section.foreign(
            OF_A_SIDE,
            "belongs to one of the two brokers: write it in `[broker.local]` or `[broker.remote]`",
        );
        let local =
            section.get("local").map(|item| item.section().and_then(BackendConfig::read_local));
        let remote = match section.get("remote") {
            Some(item) => item.section().and_then(BackendConfig::read_remote),
            None => {
                section.missing("remote", "a hybrid needs `[broker.remote]` with its `type`");
                None
            }
        };
        section.finish();
        Some(Self {
            local: local.unwrap_or_else(|| Some(BackendConfig::default()))?,
            remote: remote?,
        })
    }
}

impl BackendConfig {
    /// Whether events stay in this process.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// The local broker is in memory, and need not say so.
    fn read_local(mut section: Section<'_>) -> Option<Self> {
        let kind = match section.get("type") {
            Some(item) if KINDS.iter().skip(1).any(|(word, _)| item.is_text(word)) => {
                item.wrong("the local broker of a hybrid lives in this process: write `memory`");
                return None;
            }
            Some(item) => item.choice(WHAT, &LOCAL)?,
            None => BackendKind::Memory,
        };
        Some(Self::read_side(kind, section))
    }

    /// The remote broker says its type: one in memory is seldom what is meant.
    fn read_remote(mut section: Section<'_>) -> Option<Self> {
        let Some(item) = section.get("type") else {
            let kinds = "`redis`, `kafka`, `rabbitmq` or `memory`";
            section.missing("type", &format!("say what the remote broker is: {kinds}"));
            return None;
        };
        if item.is_text("hybrid") {
            item.wrong("a hybrid within a hybrid is not possible");
            return None;
        }
        Some(Self::read_side(item.choice(WHAT, &REMOTE)?, section))
    }

    fn read_side(kind: BackendKind, mut section: Section<'_>) -> Self {
        section.foreign(&["local", "remote"], "belongs to a hybrid in `[broker]`");
        Self::read_as(kind, section)
    }

    fn read_as(kind: BackendKind, mut section: Section<'_>) -> Self {
        if !matches!(kind, BackendKind::Memory) {
            let why = "belongs to `type = \"memory\"`";
            section.foreign(&["history", "buffer_size"], why);
        }
        match kind {
            BackendKind::Memory => Self::Memory(MemoryConfig::read(section)),
            BackendKind::Redis => Self::Redis(RedisConfig::read(section)),
            BackendKind::Kafka => Self::Kafka(KafkaConfig::read(section)),
            BackendKind::RabbitMq => Self::RabbitMq(RabbitMqConfig::read(section)),
        }
    }

    fn describe(&self, header: &str, page: &mut Page) {
        page.header(header);
        match self {
            Self::Memory(memory) => memory.describe(page),
            Self::Redis(redis) => redis.describe(page),
            Self::Kafka(kafka) => kafka.describe(page),
            Self::RabbitMq(rabbitmq) => rabbitmq.describe(page),
        }
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

    fn describe(&self, page: &mut Page) {
        page.set("type", "memory");
        page.number("history", self.history);
        page.number_or_note("buffer_size", self.buffer_size, "the broker's default");
    }
}
