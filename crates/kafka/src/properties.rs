//! Properties of librdkafka: which are not a user's to set, and which must go together.

use std::time::Duration;

use trunkline_core::Result;

use crate::config::{KafkaConfig, config_error};
use crate::partition_strategy::PartitionStrategy;

/// How long a consumer may go without a poll.
const MAX_POLL: &str = "max.poll.interval.ms";
pub(crate) const MAX_POLL_DEFAULT: Duration = Duration::from_secs(300);
/// What a rebalance takes beside the wait for handlers: the last commit, and the polls around it.
const REBALANCE: Duration = Duration::from_secs(1);

/// How long events without a key stay on one partition.
pub(crate) const STICKY: &str = "sticky.partitioning.linger.ms";

/// Properties that this crate sets itself or relies on, and what to use instead.
const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "name the servers in the URL"),
    ("metadata.broker.list", "name the servers in the URL"),
    ("group.id", "it is the prefix and the name of the group"),
    ("group.protocol", "members are fenced through the classic protocol"),
    ("group.protocol.type", "members are fenced through the classic protocol"),
    ("group.remote.assignor", "members are fenced through the classic protocol"),
    ("group.instance.id", "members come and go within one process"),
    ("partition.assignment.strategy", "it is cooperative-sticky"),
    ("session.timeout.ms", "use `with_session_timeout`"),
    ("heartbeat.interval.ms", "use `with_session_timeout`"),
    ("enable.auto.commit", "offsets are committed when events are settled"),
    ("auto.commit.enable", "offsets are committed when events are settled"),
    ("enable.auto.offset.store", "offsets are committed when events are settled"),
    ("offset.store.method", "the group's offsets are kept by Kafka, for all its members"),
    ("auto.offset.reset", "where a group begins is an option of its making"),
    ("enable.partition.eof", "it would end nothing"),
    ("enable.idempotence", "publishing relies on it"),
    ("acks", "accepted means accepted by all replicas in sync"),
    ("request.required.acks", "accepted means accepted by all replicas in sync"),
    ("delivery.report.only.error", "a publish waits for the report that its event was accepted"),
    ("transactional.id", "publishing uses no transactions"),
    ("queuing.strategy", "events of a key are sent in the order of their publishing"),
    ("max.in.flight", "order relies on it"),
    ("max.in.flight.requests.per.connection", "order relies on it"),
    (
        "partitioner",
        "a key has the same partition on every broker of trunkline; for events without one use \
         `with_partition_strategy`",
    ),
    ("message.max.bytes", "use `with_max_event_bytes`"),
    ("allow.auto.create.topics", "use `with_create_topics`"),
    ("api.version.request", "headers and idempotence need what the server says it can do"),
    ("api.version.fallback.ms", "headers and idempotence need what the server says it can do"),
    ("broker.version.fallback", "headers and idempotence need what the server says it can do"),
    ("socket.max.fails", "a server that has stopped answering must be left"),
    ("log.queue", "the client's log goes to `tracing`"),
    ("enabled_events", "the client's events are this crate's to read"),
];

/// Fails for a property that the guarantees rest on; the message says what to use instead.
pub(crate) fn ensure_open(name: &str) -> Result<()> {
    // librdkafka takes a topic's property with this before its name too.
    let plain = name.strip_prefix("topic.").unwrap_or(name);
    match RESERVED.iter().find(|(reserved, _)| *reserved == plain) {
        None => Ok(()),
        Some((_, instead)) => {
            Err(config_error(format!("the property `{name}` is not yours to set: {instead}")))
        }
    }
}

impl KafkaConfig {
    /// Refuses settings that do not go together.
    pub(crate) fn check(&self) -> Result<()> {
        let limit = self.max_poll_interval()?;
        let least = self.drain_timeout.saturating_add(REBALANCE).max(self.session_timeout);
        if limit < least {
            let message = format!(
                "`{MAX_POLL}` must be at least drain_timeout and a second, and no shorter than the \
                 session: a member that gives partitions up and waits longer for their handlers is \
                 thrown out of its group. Raise it to {} or more, or shorten drain_timeout",
                least.as_millis()
            );
            return Err(config_error(message)
                .with(MAX_POLL, limit.as_millis())
                .with("drain_timeout_ms", self.drain_timeout.as_millis()));
        }
        let lingers = self.properties.contains_key(STICKY);
        if lingers && self.partition_strategy != PartitionStrategy::Sticky {
            let message = format!("`{STICKY}` needs the partition strategy `sticky`");
            return Err(config_error(message));
        }
        Ok(())
    }

    /// How long a consumer may go without a poll until its group gives its partitions to others.
    pub(crate) fn max_poll_interval(&self) -> Result<Duration> {
        let Some(text) = self.properties.get(MAX_POLL) else { return Ok(MAX_POLL_DEFAULT) };
        let millis = text.trim().parse().map(Duration::from_millis);
        let unread = || config_error(format!("`{MAX_POLL}` is a whole number of milliseconds"));
        millis.map_err(|cause| unread().because(cause))
    }
}

#[cfg(test)]
mod tests {
    use trunkline_core::ErrorKind;

    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig::new("kafka://a").unwrap()
    }

    #[test]
    fn what_the_guarantees_rest_on_cannot_be_set() {
        for name in ["acks", "topic.acks", "delivery.report.only.error", "partitioner"] {
            let error = config().with_property(name, "0").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
        for name in ["socket.keepalive.enable", "topic.metadata.refresh.interval.ms", "debug"] {
            assert!(config().with_property(name, "1").is_ok(), "{name}");
        }
    }

    #[test]
    fn a_member_may_not_wait_for_handlers_until_its_group_throws_it_out() {
        assert!(config().check().is_ok());
        let short = |millis| config().with_property(MAX_POLL, millis).unwrap();
        let drains =
            |config: KafkaConfig, seconds| config.with_drain_timeout(Duration::from_secs(seconds));
        for bad in [short("20000"), short("30500"), drains(config(), 300), short("soon")] {
            let error = bad.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(MAX_POLL), "{error}");
        }
        // librdkafka's own rule, said before the first subscription.
        assert!(drains(short("9000"), 3).check().is_err());
        assert!(drains(short("10000"), 9).check().is_ok());
    }

    #[test]
    fn how_long_a_partition_is_stuck_to_is_only_for_who_sticks_to_one() {
        let lingers = config().with_property(STICKY, "50").unwrap();
        assert!(lingers.check().unwrap_err().to_string().contains("sticky"));
        assert!(lingers.with_partition_strategy(PartitionStrategy::Sticky).check().is_ok());
    }
}
