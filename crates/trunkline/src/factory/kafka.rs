//! The Kafka part of the factory.

use std::sync::Arc;
use std::time::Duration;

use trunkline_core::{Broker, Result};
use trunkline_kafka::{KafkaBroker, PartitionStrategy};

use crate::config::{self, Config, KafkaConfig};

/// What the broker has where only one of the two is configured.
const SESSION: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(super) async fn connect(config: &KafkaConfig, all: &Config) -> Result<Arc<dyn Broker>> {
    let mut settings = trunkline_kafka::KafkaConfig::new(config.server.url.expose())?
        .with_prefix(config.server.prefix.clone().unwrap_or_default())?
        .with_partition_rules(all.partition_rules())
        .with_max_event_bytes(all.bus.max_event_bytes)
        .with_mode(config.server.mode)
        .with_partition_strategy(strategy(config.partition_strategy))
        .with_create_topics(config.create_topics);
    if let Some(timeout) = config.server.connect_timeout {
        settings = settings.with_connect_timeout(timeout);
    }
    if let Some(timeout) = all.bus.publish_timeout {
        settings = settings.with_publish_timeout(timeout);
    }
    if let Some(replicas) = config.replication {
        settings = settings.with_replication(replicas);
    }
    if let Some(interval) = config.discovery_interval {
        settings = settings.with_discovery_interval(interval);
    }
    if config.session_timeout.is_some() || config.heartbeat_interval.is_some() {
        let session = config.session_timeout.unwrap_or(SESSION);
        let heartbeat = config.heartbeat_interval.unwrap_or(HEARTBEAT);
        settings = settings.with_session_timeout(session, heartbeat);
    }
    if let Some(interval) = config.commit_interval {
        settings = settings.with_commit_interval(interval);
    }
    if let Some(timeout) = config.drain_timeout {
        settings = settings.with_drain_timeout(timeout);
    }
    if let Some(events) = config.max_unconfirmed {
        settings = settings.with_max_unconfirmed(events);
    }
    for (name, value) in config.properties.iter() {
        settings = settings.with_property(name, value.to_string())?;
    }
    for (name, value) in config.topic_properties.iter() {
        settings = settings.with_topic_property(name, value.to_string());
    }
    Ok(Arc::new(KafkaBroker::connect(settings).await?))
}

const fn strategy(config: config::PartitionStrategy) -> PartitionStrategy {
    match config {
        config::PartitionStrategy::KeyHash => PartitionStrategy::KeyHash,
        config::PartitionStrategy::RoundRobin => PartitionStrategy::RoundRobin,
        config::PartitionStrategy::Sticky => PartitionStrategy::Sticky,
    }
}
