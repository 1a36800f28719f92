//! The settings of the Kafka broker.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use trunkline_core::cloudevents::ContentMode;
use trunkline_core::{Error, ErrorKind, PartitionRules, Result, Topic};

use crate::partition_strategy::PartitionStrategy;
use crate::{properties, servers};

/// What a record needs beside the event's data: attributes as headers, and the key.
pub(crate) const RECORD_OVERHEAD: usize = 64 << 10;

/// The settings of a [`crate::KafkaBroker`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaConfig {
    pub(crate) servers: String,
    pub(crate) prefix: String,
    pub(crate) partitions: u32,
    pub(crate) partition_rules: PartitionRules,
    pub(crate) partition_strategy: PartitionStrategy,
    pub(crate) replication: Option<u16>,
    pub(crate) create_topics: bool,
    pub(crate) max_event_bytes: usize,
    pub(crate) max_unconfirmed: usize,
    pub(crate) publish_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) session_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) discovery_interval: Duration,
    pub(crate) commit_interval: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) lane_window: usize,
    pub(crate) delay_window: usize,
    pub(crate) mode: ContentMode,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) topic_properties: BTreeMap<String, String>,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<crate::mutant::Mutant>,
}

impl KafkaConfig {
    /// The default settings for the servers of `url`, such as `kafka://host:9092,host2:9092`.
    ///
    /// # Errors
    /// `Config` when the URL is not of that form. Credentials are no part of it: they are the
    /// properties `sasl.username` and `sasl.password`.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            servers: servers::of(url)?,
            prefix: String::new(),
            // Eight members can share a topic; a partition that nobody needs costs little.
            partitions: 8,
            // The cluster's own default, which whoever runs it has thought about.
            replication: None,
            create_topics: true,
            // The limit of the whole system, `bus.max_event_bytes`.
            max_event_bytes: 4 << 20,
            partition_rules: PartitionRules::default(),
            partition_strategy: PartitionStrategy::default(),
            // What librdkafka's queue takes (100,000) with room for retries and dead letters.
            max_unconfirmed: 50_000,
            // Longer than the 5 s that a killed broker of well-set timeouts needs to serve again.
            publish_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            // A dead member is noticed after this; the client's own 45 s leaves keys unserved long.
            session_timeout: Duration::from_secs(10),
            // Members learn of a rebalance at a heartbeat.
            heartbeat_interval: Duration::from_secs(1),
            discovery_interval: Duration::from_secs(1),
            // What a killed process has acknowledged within it is delivered again.
            commit_interval: Duration::from_millis(200),
            // Well under `max.poll.interval.ms`, after which the group takes the partitions away.
            drain_timeout: Duration::from_secs(30),
            lane_window: 10_000,
            delay_window: 10_000,
            mode: ContentMode::Binary,
            properties: BTreeMap::new(),
            topic_properties: BTreeMap::new(),
            #[cfg(feature = "mutants")]
            mutant: None,
        })
    }

    /// Puts `prefix` before every physical name: topics and groups.
    ///
    /// # Errors
    /// `Config` when it holds anything but letters, digits, `.`, `_` and `-`, or is longer than 40
    /// bytes.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Result<Self> {
        let prefix = prefix.into();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if prefix.len() > 40 || !prefix.bytes().all(fits) {
            let message =
                "the prefix of Kafka names is at most 40 letters, digits, `.`, `_` and `-`";
            return Err(config_error(message).with("prefix", prefix));
        }
        self.prefix = prefix;
        Ok(self)
    }

    /// Sets how many partitions topics get that this broker creates; 0 counts as 1.
    #[must_use]
    pub fn with_partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Sets how many replicas topics get that this broker creates, instead of the cluster's default.
    #[must_use]
    pub fn with_replication(mut self, replicas: u16) -> Self {
        self.replication = Some(replicas.max(1));
        self
    }

    /// Sets whether topics that do not exist are created; otherwise publishing to one is
    /// `Unroutable`.
    #[must_use]
    pub fn with_create_topics(mut self, create: bool) -> Self {
        self.create_topics = create;
        self
    }

    /// Sets the partitions of topics by rules; `partitions` is for what no rule decides.
    #[must_use]
    pub fn with_partition_rules(mut self, rules: PartitionRules) -> Self {
        self.partition_rules = rules;
        self
    }

    /// Sets how events without a key spread over the partitions of their topic.
    #[must_use]
    pub fn with_partition_strategy(mut self, strategy: PartitionStrategy) -> Self {
        self.partition_strategy = strategy;
        self
    }

    /// Sets the longest data of an event, in bytes.
    #[must_use]
    pub fn with_max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Sets how many published events may wait for their confirmation at a time; beyond, publishers
    /// wait.
    #[must_use]
    pub fn with_max_unconfirmed(mut self, events: usize) -> Self {
        self.max_unconfirmed = events.clamp(1, 90_000);
        self
    }

    /// Sets how long a publish waits for its confirmation where its options do not say.
    #[must_use]
    pub fn with_publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// Sets how long connecting is tried.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets after what silence a member counts as dead, and how often it shows that it lives, which
    /// is also how soon it learns of a rebalance.
    ///
    /// The broker's `group.min.session.timeout.ms` (6 s by default) is the least that it takes.
    #[must_use]
    pub fn with_session_timeout(mut self, session: Duration, heartbeat: Duration) -> Self {
        self.session_timeout = session;
        self.heartbeat_interval = heartbeat;
        self
    }

    /// Sets how often topics made elsewhere are looked for, where a subscription has a wildcard.
    #[must_use]
    pub fn with_discovery_interval(mut self, interval: Duration) -> Self {
        self.discovery_interval = interval;
        self
    }

    /// Sets how often settled offsets are committed.
    #[must_use]
    pub fn with_commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// Sets how long a member that gives partitions up waits for the deliveries of them that are out.
    #[must_use]
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Sets how many events a member of a group with priority lanes reads ahead, to find the urgent
    /// ones.
    #[must_use]
    pub fn with_lane_window(mut self, events: usize) -> Self {
        self.lane_window = events.max(1);
        self
    }

    /// Sets how many delayed events of one partition are held in memory until they are due; more wait
    /// in the log, and may then be late.
    #[must_use]
    pub fn with_delay_window(mut self, events: usize) -> Self {
        self.delay_window = events.max(1);
        self
    }

    /// Sets how events are written that are published; both modes are read.
    #[must_use]
    pub fn with_mode(mut self, mode: ContentMode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets a property of librdkafka, for every client of this broker.
    ///
    /// # Errors
    /// `Config` for a property that the guarantees of this broker rest on; the message says what to
    /// use instead.
    pub fn with_property(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self> {
        let name = name.into();
        properties::ensure_open(&name)?;
        self.properties.insert(name, value.into());
        Ok(self)
    }

    /// Sets a configuration of the topics that this broker creates, such as `retention.ms`.
    #[must_use]
    pub fn with_topic_property(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        self.topic_properties.insert(name.into(), value.into());
        self
    }

    /// Breaks one guarantee on purpose, for the tests that must notice.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mut self, mutant: crate::mutant::Mutant) -> Self {
        self.mutant = Some(mutant);
        self
    }

    /// How many partitions `topic` gets when it is made.
    pub(crate) fn partitions_of(&self, topic: &Topic) -> u32 {
        self.partition_rules.of_topic(topic).unwrap_or(self.partitions)
    }

    /// A topic to ask about when only the answer counts.
    pub(crate) fn prefix_topic(&self) -> String {
        format!("{}trunkline..groups", self.prefix)
    }

    /// The longest record, with its key and headers.
    pub(crate) fn max_record_bytes(&self) -> usize {
        self.max_event_bytes.saturating_add(RECORD_OVERHEAD)
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values of properties may be secrets: passwords, keys, tokens.
        let properties: Vec<&str> = self.properties.keys().map(String::as_str).collect();
        f.debug_struct("KafkaConfig")
            .field("servers", &self.servers)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("partition_rules", &self.partition_rules)
            .field("partition_strategy", &self.partition_strategy)
            .field("replication", &self.replication)
            .field("create_topics", &self.create_topics)
            .field("max_event_bytes", &self.max_event_bytes)
            .field("max_unconfirmed", &self.max_unconfirmed)
            .field("publish_timeout", &self.publish_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("session_timeout", &self.session_timeout)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("discovery_interval", &self.discovery_interval)
            .field("commit_interval", &self.commit_interval)
            .field("drain_timeout", &self.drain_timeout)
            .field("lane_window", &self.lane_window)
            .field("delay_window", &self.delay_window)
            .field("mode", &self.mode)
            .field("properties", &properties)
            .field("topic_properties", &self.topic_properties)
            .finish_non_exhaustive()
    }
}

pub(crate) fn config_error(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "kafka config", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_value_of_a_property() {
        let config = KafkaConfig::new("kafka://a").unwrap();
        let config = config.with_property("sasl.password", "hunter2").unwrap();
        let debug = format!("{config:?}");
        assert!(debug.contains("sasl.password") && !debug.contains("hunter2"), "{debug}");
    }
}
