//! The settings of the RabbitMQ broker.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use trunkline_core::cloudevents::ContentMode;
use trunkline_core::{Error, ErrorKind, Group, PartitionRules, Pattern, Result};

use crate::arguments::{self, QueueArgument, QueueArguments};
use crate::mutant::Mutant;

/// How an exchange chooses the queues of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExchangeType {
    /// By words of the routing key: every pattern works.
    #[default]
    Topic,
    /// By the whole routing key: only patterns that name one topic work.
    Direct,
    /// Not at all: every group gets everything, and takes out what its patterns do not match.
    Fanout,
    /// By the header `tl-topic`: only patterns that name one topic, and `#`, work.
    Headers,
}

/// The type of the queues of groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueType {
    /// Replicated and fsynced; what the guarantees are stated for.
    #[default]
    Quorum,
    /// Durable on one node; a `SIGKILL` may redeliver more, and no delivery is counted.
    Classic,
}

/// What the broker declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Declare {
    /// Whatever it needs.
    #[default]
    All,
    /// What it keeps for itself, under names with `..`: dead letters, delays, logs, queues of broadcast
    /// subscribers. The exchange and the queues of groups have to exist, and a group takes from the
    /// queue of its name unless [`RabbitMqConfig::with_group_queues`] names others.
    Own,
    /// Nothing. What needs more than the exchange and the queues of groups is `Unsupported`: delays,
    /// dead letters and broadcast subscribers.
    Nothing,
}

/// The settings of a [`crate::RabbitMqBroker`].
#[derive(Clone)]
pub struct RabbitMqConfig {
    pub(crate) uri: AMQPUri,
    pub(crate) ca_certificates: Option<String>,
    pub(crate) prefix: String,
    pub(crate) exchange: String,
    pub(crate) exchange_type: ExchangeType,
    pub(crate) queue_type: QueueType,
    pub(crate) queue_arguments: QueueArguments,
    pub(crate) declare: Declare,
    pub(crate) group_queues: BTreeMap<Group, Vec<String>>,
    pub(crate) partitions: u32,
    pub(crate) partition_rules: PartitionRules,
    pub(crate) max_event_bytes: usize,
    pub(crate) publish_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) confirm_window: usize,
    pub(crate) confirm_channels: usize,
    pub(crate) mode: ContentMode,
    pub(crate) mutant: Option<Mutant>,
}

impl RabbitMqConfig {
    /// The default settings for the server at `url`, such as `amqp://user:password@host:5672/%2f`.
    ///
    /// `amqps://` uses TLS. The path is the virtual host, percent-encoded; without one it is `/`.
    ///
    /// # Errors
    /// `Config` when the text is no AMQP URL; the message does not repeat it.
    pub fn new(url: &str) -> Result<Self> {
        let mut uri: AMQPUri = url.parse().map_err(|_may_hold_credentials: String| {
            let message = "the broker's url is no AMQP URL: it is to look like \
                           amqp://user:password@host:5672/%2f";
            Error::new(ErrorKind::Config, "rabbitmq", message)
        })?;
        // Ten seconds, and so a silent peer is found after twenty: less would break under a pause of
        // the server's garbage collector.
        uri.query.heartbeat.get_or_insert(10);
        Ok(Self {
            uri,
            ca_certificates: None,
            prefix: String::new(),
            exchange: "trunkline".to_owned(),
            exchange_type: ExchangeType::default(),
            queue_type: QueueType::default(),
            queue_arguments: QueueArguments::new(),
            declare: Declare::default(),
            group_queues: BTreeMap::new(),
            // Parallelism between processes only: inside one, lanes give it. Each is a Raft group.
            partitions: 4,
            // The limit of the whole system, `bus.max_event_bytes`.
            max_event_bytes: 4 << 20,
            partition_rules: PartitionRules::default(),
            // Longer than a restart of a single node, 5 to 13 s as measured.
            publish_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            // 25,000 events/s on two cores; four times as many brought 6 % more.
            confirm_window: 512,
            confirm_channels: 2,
            mode: ContentMode::Binary,
            mutant: None,
        })
    }

    /// Puts `prefix` before every physical name, so that several systems share a virtual host.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the exchange that events are published to, and its type.
    #[must_use]
    pub fn with_exchange(mut self, name: impl Into<String>, kind: ExchangeType) -> Self {
        self.exchange = name.into();
        self.exchange_type = kind;
        self
    }

    /// Sets the type of the queues of groups.
    #[must_use]
    pub fn with_queue_type(mut self, kind: QueueType) -> Self {
        self.queue_type = kind;
        self
    }

    /// Adds an argument to the declaration of the queues of groups.
    ///
    /// With a limit of their length they refuse what is too much, so that publishing fails as `Full`.
    /// Arguments that would drop accepted events are refused by [`crate::RabbitMqBroker::connect`].
    #[must_use]
    pub fn with_queue_argument(
        mut self,
        name: impl Into<String>,
        value: impl Into<QueueArgument>,
    ) -> Self {
        self.queue_arguments.insert(name.into(), value.into());
        self
    }

    /// Sets what is declared; the rest has to exist.
    #[must_use]
    pub fn with_declare(mut self, declare: Declare) -> Self {
        self.declare = declare;
        self
    }

    /// Lets `group` take from queues that exist, which are then neither declared nor bound to the
    /// exchange; its members get all that is in them.
    #[must_use]
    pub fn with_group_queues(
        mut self,
        group: Group,
        queues: impl IntoIterator<Item = String>,
    ) -> Self {
        self.group_queues.insert(group, queues.into_iter().collect());
        self
    }

    /// Sets into how many queues a new group is split, 1 to 16.
    #[must_use]
    pub fn with_partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets the partitions of topics by rules; `partitions` is for what no rule decides.
    #[must_use]
    pub fn with_partition_rules(mut self, rules: PartitionRules) -> Self {
        self.partition_rules = rules;
        self
    }

    /// Sets the longest data of an event, in bytes.
    #[must_use]
    pub fn with_max_event_bytes(mut self, bytes: usize) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// Sets how long a publish waits for its confirm, through reconnects, where its options do not say.
    #[must_use]
    pub fn with_publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// Sets how long [`crate::RabbitMqBroker::connect`] tries.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets after how long a silent peer is asked for a sign of life; lost after twice that.
    #[must_use]
    pub fn with_heartbeat(mut self, every: Duration) -> Self {
        let seconds = u16::try_from(every.as_secs().max(1)).unwrap_or(u16::MAX);
        self.uri.query.heartbeat = Some(seconds);
        self
    }

    /// Sets how many publishes may wait for their confirm on each of `channels`.
    #[must_use]
    pub fn with_confirms(mut self, channels: usize, window: usize) -> Self {
        self.confirm_channels = channels;
        self.confirm_window = window;
        self
    }

    /// Sets how events are written that are published; both modes are read.
    #[must_use]
    pub fn with_mode(mut self, mode: ContentMode) -> Self {
        self.mode = mode;
        self
    }

    /// Trusts these certificates, in PEM, beside those of the system.
    #[must_use]
    pub fn with_ca_certificates(mut self, pem: impl Into<String>) -> Self {
        self.ca_certificates = Some(pem.into());
        self
    }

    /// Breaks one guarantee on purpose: for tests of the tests only.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mut self, mutant: Mutant) -> Self {
        self.mutant = Some(mutant);
        self
    }

    /// The server's address, without credentials.
    pub(crate) fn address(&self) -> String {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let authority = &self.uri.authority;
        format!("{scheme}://{}:{}/{}", authority.host, authority.port, self.uri.vhost)
    }

    /// Into how many queues a new group that takes `topics` is split.
    pub(crate) fn partitions_of(&self, topics: &[Pattern]) -> u32 {
        self.partition_rules.of_group(topics).unwrap_or(self.partitions)
    }

    /// Checks what the builders cannot.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |message: &'static str| Error::new(ErrorKind::Config, "rabbitmq", message);
        if !(1..=SLOTS).contains(&self.partitions) {
            return Err(wrong("`partitions` of RabbitMQ is 1 to 16").with("found", self.partitions));
        }
        if self.confirm_window == 0 || self.confirm_channels == 0 {
            return Err(wrong("confirm channels and their window are at least 1"));
        }
        if self.prefix.len() + self.exchange.len() > 100 {
            return Err(wrong("prefix and exchange name together are at most 100 bytes"));
        }
        if self.group_queues.values().any(Vec::is_empty) {
            return Err(wrong("a group in `group_queues` names at least one queue"));
        }
        if self.group_queues.values().flatten().any(|queue| queue.len() > 255) {
            return Err(wrong("a queue in `group_queues` has a name of more than 255 bytes"));
        }
        arguments::check(&self.queue_arguments)
    }
}

/// The slots that keys are spread over; more would slow the headers exchange down.
pub(crate) const SLOTS: u32 = 16;

impl fmt::Debug for RabbitMqConfig {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqConfig")
            .field("address", &self.address())
            .field("prefix", &self.prefix)
            .field("exchange", &self.exchange)
            .field("exchange_type", &self.exchange_type)
            .field("queue_type", &self.queue_type)
            .field("queue_arguments", &self.queue_arguments)
            .field("declare", &self.declare)
            .field("group_queues", &self.group_queues)
            .field("partitions", &self.partitions)
            .field("partition_rules", &self.partition_rules)
            .field("max_event_bytes", &self.max_event_bytes)
            .field("publish_timeout", &self.publish_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("confirm_window", &self.confirm_window)
            .field("confirm_channels", &self.confirm_channels)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_an_error_shows_a_credential() {
        let config = RabbitMqConfig::new("amqp://alice:s3cret@broker.example:5671/prod").unwrap();
        let debug = format!("{config:?}");
        assert!(debug.contains("broker.example:5671/prod"));
        assert!(!debug.contains("s3cret") && !debug.contains("alice"));
        let error = RabbitMqConfig::new("amqp://alice:s3cret@[broken").unwrap_err();
        assert!(!format!("{error:?}").contains("s3cret"));
    }

    #[test]
    fn partitions_are_within_the_slots() {
        let config = RabbitMqConfig::new("amqp://localhost").unwrap();
        assert!(config.clone().with_partitions(16).check().is_ok());
        assert!(config.clone().with_partitions(0).check().is_err());
        assert!(config.with_partitions(17).check().is_err());
    }
}
