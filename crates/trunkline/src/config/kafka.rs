//! `type = "kafka"`: a broker over Apache Kafka.

use std::time::Duration;

use super::describe::Page;
use super::property::Properties;
use super::read::{Choice, Section};
use super::server::{DEFAULT, ServerConfig};

/// `type = "kafka"`: a broker over Apache Kafka; where a setting is absent the broker has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaConfig {
    /// Where the servers are and how their names begin.
    pub server: ServerConfig,
    /// How many servers hold each partition of a topic that this library makes; absent, what the
    /// cluster has as its default.
    pub replication: Option<u16>,
    /// How events without a key spread over the partitions of their topic.
    pub partition_strategy: PartitionStrategy,
    /// Whether topics that do not exist are made.
    pub create_topics: bool,
    /// How often topics are looked for that a pattern matches and that other programs made.
    pub discovery_interval: Option<Duration>,
    /// After what silence a member counts as dead.
    pub session_timeout: Option<Duration>,
    /// How often a member shows that it lives.
    pub heartbeat_interval: Option<Duration>,
    /// How often settled offsets are committed.
    pub commit_interval: Option<Duration>,
    /// How long a member that gives partitions up waits for what is with its handlers.
    pub drain_timeout: Option<Duration>,
    /// How many published events may wait for their confirmation.
    pub max_unconfirmed: Option<usize>,
    /// Any property of librdkafka, passed on as it is.
    pub properties: Properties,
    /// Any configuration of the topics that this library makes, passed on as it is.
    pub topic_properties: Properties,
}

/// How the events of a Kafka topic spread over its partitions; those with a key always go to the key's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionStrategy {
    /// By the key's hash; without a key anywhere, by chance.
    #[default]
    KeyHash,
    /// Events without a key take the partitions in turn.
    RoundRobin,
    /// Events without a key stay on one partition for a while.
    Sticky,
}

const STRATEGIES: [Choice<PartitionStrategy>; 3] = [
    ("key_hash", Some(PartitionStrategy::KeyHash)),
    ("round_robin", Some(PartitionStrategy::RoundRobin)),
    ("sticky", Some(PartitionStrategy::Sticky)),
];
const SCHEMES: &[&str] = &["kafka"];

impl KafkaConfig {
    /// A broker at `server` that leaves everything else as it is.
    #[must_use]
    pub fn new(server: ServerConfig) -> Self {
        Self {
            server,
            replication: None,
            partition_strategy: PartitionStrategy::default(),
            create_topics: true,
            discovery_interval: None,
            session_timeout: None,
            heartbeat_interval: None,
            commit_interval: None,
            drain_timeout: None,
            max_unconfirmed: None,
            properties: Properties::default(),
            topic_properties: Properties::default(),
        }
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let server = ServerConfig::read(&mut section, SCHEMES, "kafka://127.0.0.1:9092");
        let strategy = section.choice("partition_strategy", "partition strategy", &STRATEGIES);
        let kafka = Self {
            server,
            replication: section.number("replication", 1),
            partition_strategy: strategy.unwrap_or_default(),
            create_topics: section.boolean("create_topics").unwrap_or(true),
            discovery_interval: section.millis("discovery_interval_ms"),
            session_timeout: section.millis("session_timeout_ms"),
            heartbeat_interval: section.millis("heartbeat_interval_ms"),
            commit_interval: section.millis("commit_interval_ms"),
            drain_timeout: section.millis("drain_timeout_ms"),
            max_unconfirmed: section.number("max_unconfirmed", 1),
            properties: Properties::read(&mut section, "properties", "."),
            topic_properties: Properties::read(&mut section, "topic_properties", "."),
        };
        section.finish();
        kafka
    }

    pub(super) fn describe(&self, page: &mut Page) {
        page.set("type", "kafka");
        self.server.describe(page);
        page.number_or_note("replication", self.replication, "the cluster's default");
        page.choice("partition_strategy", self.partition_strategy, &STRATEGIES);
        page.set("create_topics", self.create_topics);
        for (key, time) in [
            ("discovery_interval_ms", self.discovery_interval),
            ("session_timeout_ms", self.session_timeout),
            ("heartbeat_interval_ms", self.heartbeat_interval),
            ("commit_interval_ms", self.commit_interval),
            ("drain_timeout_ms", self.drain_timeout),
        ] {
            page.millis_or_note(key, time, DEFAULT);
        }
        page.number_or_note("max_unconfirmed", self.max_unconfirmed, DEFAULT);
        self.properties.describe("properties", page);
        self.topic_properties.describe("topic_properties", page);
    }
}
