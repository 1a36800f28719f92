//! The settings of the Redis broker.

use std::fmt;
use std::time::Duration;

use crate::mutant::Mutant;
use crate::names::tagged;
use crate::resolve::Target;
use smol_str::SmolStr;
use trunkline_core::cloudevents::ContentMode;
use trunkline_core::{PartitionRules, Result, Topic};

/// The settings of a [`crate::RedisBroker`].
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    pub(crate) target: Target,
    /// What every physical name begins with; in a cluster it stands in braces there, so that all of
    /// them share a slot, and is `trunkline` where it is empty.
    pub prefix: SmolStr,
    /// Partitions of a topic that this broker makes and no rule is about.
    pub partitions: u32,
    /// Partitions of topics that a rule decides, instead.
    pub partition_rules: PartitionRules,
    /// The longest data of an event, in bytes.
    pub max_event_bytes: usize,
    /// How long a publish waits for the server.
    pub publish_timeout: Duration,
    /// How long [`crate::RedisBroker::connect`] tries.
    pub connect_timeout: Duration,
    /// How long one command may take; two in a row that take longer cost the connection.
    pub response_timeout: Duration,
    /// How long a member that is not heard of keeps its partitions.
    pub lease_ttl: Duration,
    /// How often streams that other programs made are looked for.
    pub discovery_interval: Duration,
    /// How many events a partition keeps of what every group and live subscriber has taken; absent,
    /// all.
    pub max_stream_length: Option<u64>,
    /// How long a broadcast subscriber that is not heard of holds trimming back.
    pub subscriber_ttl: Duration,
    /// How many replicas must have an event before its publish is Ok, and how long that may take.
    pub wait_replicas: Option<(u32, Duration)>,
    /// How many events a group with lanes reads ahead, to find urgent ones among them.
    pub lane_window: usize,
    /// How events are written.
    pub mode: ContentMode,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<Mutant>,
}

impl RedisConfig {
    /// The defaults for the server at `url`: `redis://[user:password@]host[:port][/database]`, or
    /// `rediss://` for TLS with the usual certificate roots.
    ///
    /// `redis+sentinel://[user:password@]host[:26379][,host…]/service[/database]` goes to whatever
    /// server the sentinels name as the primary of the service, and
    /// `redis+cluster://[user:password@]host[:6379][,host…]` to the one primary of the cluster that has
    /// the slot of the prefix. Both exist with `rediss` too.
    ///
    /// # Errors
    /// `Config` when the URL is none of these.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            target: Target::parse(url)?,
            prefix: SmolStr::default(),
            // One call reads all of them, and eight members can share a topic.
            partitions: 8,
            partition_rules: PartitionRules::default(),
            // The limit of the whole system, `bus.max_event_bytes`.
            max_event_bytes: 4 << 20,
            // Longer than a restart of a small server takes, shorter than a client's usual 10 s limit.
            publish_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            // The driver's 500 ms is shorter than what a rewrite of the append-only file can cost.
            response_timeout: Duration::from_secs(5),
            // Three renewals, of which two may be lost; take-over after a crash takes a third longer.
            lease_ttl: Duration::from_secs(10),
            // Foreign streams are rare, and a scan walks over every key of the database.
            discovery_interval: Duration::from_secs(30),
            // At 300 bytes an event 100,000 are 30 MB a partition.
            max_stream_length: Some(100_000),
            // The contract's ten minutes, and one for the clocks.
            subscriber_ttl: Duration::from_secs(660),
            wait_replicas: None,
            lane_window: 4_096,
            mode: ContentMode::Binary,
            #[cfg(feature = "mutants")]
            mutant: None,
        })
    }

    /// Sets what every physical name begins with.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<SmolStr>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the partitions of a topic that this broker makes; a topic that exists keeps its own.
    #[must_use]
    pub fn with_partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Sets the partitions of topics by rules; `partitions` is for what no rule decides.
    #[must_use]
    pub fn with_partition_rules(mut self, rules: PartitionRules) -> Self {
        self.partition_rules = rules;
        self
    }

    /// How many partitions `topic` gets when it is made.
    #[must_use]
    pub fn partitions_of(&self, topic: &Topic) -> u32 {
        self.partition_rules.of_topic(topic).unwrap_or(self.partitions)
    }

    /// Sets the longest data of an event, in bytes.
    #[must_use]
    pub fn with_max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Sets how long a publish waits for the server.
    #[must_use]
    pub fn with_publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// Sets how long connecting tries before it gives up.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long one command may take.
    #[must_use]
    pub fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Sets how long a member that is not heard of keeps its partitions.
    #[must_use]
    pub fn with_lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl.max(Duration::from_millis(100));
        self
    }

    /// Sets how often streams that other programs made are looked for.
    #[must_use]
    pub fn with_discovery_interval(mut self, interval: Duration) -> Self {
        self.discovery_interval = interval.max(Duration::from_millis(10));
        self
    }

    /// Sets how many taken events a partition keeps; `None` keeps all.
    #[must_use]
    pub fn with_max_stream_length(mut self, events: impl Into<Option<u64>>) -> Self {
        self.max_stream_length = events.into();
        self
    }

    /// Sets how long a broadcast subscriber that is not heard of holds trimming back.
    #[must_use]
    pub fn with_subscriber_ttl(mut self, ttl: Duration) -> Self {
        self.subscriber_ttl = ttl;
        self
    }

    /// Has a publish wait until so many replicas have its events, at most `timeout`.
    #[must_use]
    pub fn with_wait_replicas(mut self, replicas: u32, timeout: Duration) -> Self {
        self.wait_replicas = (replicas > 0).then_some((replicas, timeout));
        self
    }

    /// Sets how many events a group with lanes reads ahead.
    #[must_use]
    pub fn with_lane_window(mut self, events: usize) -> Self {
        self.lane_window = events.max(1);
        self
    }

    /// Sets how events are written that are published; both modes are read.
    #[must_use]
    pub fn with_mode(mut self, mode: ContentMode) -> Self {
        self.mode = mode;
        self
    }

    /// Trusts these certificates, in PEM, instead of the usual roots.
    ///
    /// # Errors
    /// `Config` when the text holds no certificate, or the URL asks for no TLS.
    pub fn with_ca_certificates(mut self, pem: &str) -> Result<Self> {
        self.target.trust(pem)?;
        Ok(self)
    }

    /// Breaks one promise on purpose, so that a test can show that it notices.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mut self, mutant: Mutant) -> Self {
        self.mutant = Some(mutant);
        self
    }

    /// Whether a promise is broken on purpose.
    #[cfg(feature = "mutants")]
    pub(crate) fn breaks(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether a promise is broken on purpose: never, in what is shipped.
    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "asked as where promises can be broken")]
    pub(crate) const fn breaks(&self, _mutant: Mutant) -> bool {
        false
    }

    /// Where the server, the sentinels or the nodes are that the URL names, without credentials.
    #[must_use]
    pub fn address(&self) -> String {
        self.target.address()
    }

    /// What every physical name begins with on this server.
    pub(crate) fn physical_prefix(&self) -> SmolStr {
        if self.target.is_cluster() { tagged(&self.prefix) } else { self.prefix.clone() }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &self.address())
            .field("database", &self.target.database())
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("partition_rules", &self.partition_rules)
            .field("max_event_bytes", &self.max_event_bytes)
            .field("publish_timeout", &self.publish_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("lease_ttl", &self.lease_ttl)
            .field("discovery_interval", &self.discovery_interval)
            .field("max_stream_length", &self.max_stream_length)
            .field("subscriber_ttl", &self.subscriber_ttl)
            .field("wait_replicas", &self.wait_replicas)
            .field("lane_window", &self.lane_window)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_core::ErrorKind;

    #[test]
    fn no_credential_is_shown() {
        let config = RedisConfig::new("redis://ann:s3cret@db.example:6380/2").unwrap();
        let shown = format!("{config:?} {}", config.address());
        assert!(shown.contains("db.example:6380") && shown.contains("database: 2"), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("ann"), "{shown}");
    }

    #[test]
    fn what_is_no_url_is_said_without_it() {
        for url in ["", "http://h", "redis://a:hunter2@h/x"] {
            let error = RedisConfig::new(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_cluster_has_its_prefix_in_braces() {
        let on = |url, prefix: &str| {
            RedisConfig::new(url).unwrap().with_prefix(prefix).physical_prefix()
        };
        assert_eq!(on("redis://h", "shop-"), "shop-");
        assert_eq!(on("redis+sentinel://h/main", "shop-"), "shop-");
        assert_eq!(on("redis+cluster://h", "shop-"), "{shop-}");
        assert_eq!(on("redis+cluster://h", ""), "{trunkline}");
    }
}
