//! The Redis part of the factory.

use std::sync::Arc;

use trunkline_core::{Broker, Result};
use trunkline_redis::RedisBroker;

use crate::config::{Config, RedisConfig};

pub(super) async fn connect(config: &RedisConfig, all: &Config) -> Result<Arc<dyn Broker>> {
    let mut settings = trunkline_redis::RedisConfig::new(config.server.url.expose())?
        .with_partition_rules(all.partition_rules())
        .with_max_event_bytes(all.bus.max_event_bytes)
        .with_mode(config.server.mode)
        .with_wait_replicas(config.wait_replicas.unwrap_or_default(), config.wait_timeout);
    if let Some(prefix) = &config.server.prefix {
        settings = settings.with_prefix(prefix.as_str());
    }
    if let Some(timeout) = config.server.connect_timeout {
        settings = settings.with_connect_timeout(timeout);
    }
    if let Some(timeout) = all.bus.publish_timeout {
        settings = settings.with_publish_timeout(timeout);
    }
    if let Some(ttl) = config.lease_ttl {
        settings = settings.with_lease_ttl(ttl);
    }
    if let Some(interval) = config.discovery_interval {
        settings = settings.with_discovery_interval(interval);
    }
    if let Some(events) = config.max_stream_length {
        settings = settings.with_max_stream_length((events > 0).then_some(events));
    }
    if let Some(timeout) = config.response_timeout {
        settings = settings.with_response_timeout(timeout);
    }
    if let Some(ttl) = config.subscriber_ttl {
        settings = settings.with_subscriber_ttl(ttl);
    }
    if let Some(path) = &config.ca_file {
        settings = settings.with_ca_certificates(&super::certificates(path)?)?;
    }
    Ok(Arc::new(RedisBroker::connect(settings).await?))
}
