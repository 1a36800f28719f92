//! From a configuration to a running bus.

#[cfg(feature = "hybrid")]
#[path = "hybrid.rs"]
mod hybrid_part;
#[cfg(not(feature = "hybrid"))]
#[path = "without_hybrid.rs"]
mod hybrid_part;
#[cfg(feature = "kafka")]
#[path = "kafka.rs"]
mod kafka_part;
#[cfg(not(feature = "kafka"))]
#[path = "without_kafka.rs"]
mod kafka_part;
#[cfg(feature = "rabbitmq")]
#[path = "rabbitmq.rs"]
mod rabbitmq_part;
#[cfg(not(feature = "rabbitmq"))]
#[path = "without_rabbitmq.rs"]
mod rabbitmq_part;
#[cfg(feature = "redis")]
#[path = "redis.rs"]
mod redis_part;
#[cfg(not(feature = "redis"))]
#[path = "without_redis.rs"]
mod redis_part;
#[cfg(feature = "sqlite")]
#[path = "sqlite.rs"]
mod sqlite_part;
#[cfg(not(feature = "sqlite"))]
#[path = "without_sqlite.rs"]
mod sqlite_part;

use std::future::Future;
use std::sync::Arc;

use trunkline_bus::{Channel, EventBus, Jitter, RetryPolicy};
use trunkline_core::{Broker, Error, ErrorKind, EventStore, Result};
use trunkline_memory::{MemoryBroker, MemoryConfig, MemoryStore, MemoryStoreConfig};

use crate::config::{
    self, BackendConfig, BrokerConfig, ChannelConfig, Config, RetentionConfig, StoreConfig,
};

pub use hybrid_part::Hybrid;

/// A bus that was built from a configuration, with the parts that have more to say than their
/// contracts.
#[derive(Debug)]
pub struct Assembled {
    /// The bus.
    pub bus: EventBus,
    /// The hybrid broker, when the configuration asks for one: its counters, and why it routes as it
    /// does.
    pub hybrid: Option<Hybrid>,
}

/// Ways to make an [`EventBus`].
pub trait EventBusExt: Sized {
    /// A bus over the memory broker, without a store.
    ///
    /// # Errors
    /// None today; the signature is that of every way to start a bus.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    fn in_memory() -> impl Future<Output = Result<Self>> + Send;

    /// The bus that `config` describes.
    ///
    /// # Errors
    /// `Config` when the configuration cannot be carried out, naming the key; `Unsupported` when a
    /// channel needs what the broker lacks; `Disconnected`.
    ///
    /// # Cancel safety
    /// A dropped call may have opened the store and made some of the channels' groups.
    fn from_config(config: &Config) -> impl Future<Output = Result<Self>> + Send;
}

impl EventBusExt for EventBus {
    async fn in_memory() -> Result<Self> {
        EventBus::builder(MemoryBroker::default()).start().await
    }

    async fn from_config(config: &Config) -> Result<Self> {
        Ok(Assembled::from_config(config).await?.bus)
    }
}

impl Assembled {
    /// The bus that `config` describes, with its parts.
    ///
    /// # Errors
    /// As [`EventBusExt::from_config`].
    ///
    /// # Cancel safety
    /// As [`EventBusExt::from_config`].
    pub async fn from_config(config: &Config) -> Result<Self> {
        if !config.bus.enabled {
            let message = "`bus.enabled` is false: start no bus, or set it to true";
            return Err(Error::new(ErrorKind::Config, "start", message));
        }
        let (broker, hybrid): (Arc<dyn Broker>, _) = match &config.broker {
            BrokerConfig::Single(backend) => (single(backend, config).await?, None),
            BrokerConfig::Hybrid(sides) => {
                let local = single(&sides.local, config).await?;
                let remote = single(&sides.remote, config).await?;
                let hybrid = hybrid_part::hybrid(local, remote, &config.routing)?;
                (hybrid_part::broker(&hybrid), Some(hybrid))
            }
        };
        let mut builder = EventBus::builder(broker).max_event_bytes(config.bus.max_event_bytes);
        if let Some(timeout) = config.bus.publish_timeout {
            builder = builder.publish_timeout(timeout);
        }
        if let Some(source) = &config.bus.source {
            builder = builder.source(source.as_str());
        }
        if let Some(store) = store(&config.store).await? {
            builder = builder.store(store);
        }
        for channel in &config.channels {
            builder = builder.channel(bus_channel(channel, &config.broker));
        }
        Ok(Self { bus: builder.start().await?, hybrid })
    }
}

async fn single(backend: &BackendConfig, config: &Config) -> Result<Arc<dyn Broker>> {
    match backend {
        BackendConfig::Memory(memory) => Ok(memory_broker(memory, config)),
        BackendConfig::Redis(redis) => redis_part::connect(redis, config).await,
        BackendConfig::Kafka(kafka) => kafka_part::connect(kafka, config).await,
        BackendConfig::RabbitMq(rabbitmq) => rabbitmq_part::connect(rabbitmq, config).await,
    }
}

fn memory_broker(memory: &config::MemoryConfig, config: &Config) -> Arc<dyn Broker> {
    let mut settings = MemoryConfig::default()
        .with_history(memory.history)
        .with_max_event_bytes(config.bus.max_event_bytes);
    if let Some(timeout) = config.bus.publish_timeout {
        settings = settings.with_publish_timeout(timeout);
    }
    if let Some(buffer) = memory.buffer_size {
        settings = settings.with_buffer(buffer);
    }
    Arc::new(MemoryBroker::new(settings))
}

async fn store(config: &StoreConfig) -> Result<Option<Arc<dyn EventStore>>> {
    match config {
        StoreConfig::None => Ok(None),
        StoreConfig::Memory(retention) => {
            let settings = MemoryStoreConfig::default()
                .with_ttl(retention.ttl)
                .with_max_events_per_stream(max_events(retention));
            Ok(Some(Arc::new(MemoryStore::new(settings))))
        }
        StoreConfig::Sqlite(sqlite) => sqlite_part::open(sqlite).await.map(Some),
    }
}

fn max_events(retention: &RetentionConfig) -> Option<usize> {
    let max = retention.max_events_per_stream?;
    Some(usize::try_from(max).unwrap_or(usize::MAX))
}

fn bus_channel(config: &ChannelConfig, broker: &BrokerConfig) -> Channel {
    let mut channel = Channel::new(config.name.as_str(), config.topics.iter().cloned());
    channel.consumers.clone_from(&config.consumers);
    if broker.outer().is_memory() || matches!(broker, BrokerConfig::Hybrid(_)) {
        channel.buffer = config.buffer_size;
    }
    if !broker.outer().is_memory() {
        channel.prefetch = config.buffer_size;
        channel.unconfirmed = config.buffer_size;
    }
    channel.on_full = config.on_full;
    channel.order = config.order;
    channel.lanes = config.lanes;
    channel.timeout = config.timeout;
    channel.on_unhandled = config.on_unhandled;
    channel.retry = retry(&config.retry);
    if let Some(concurrency) = config.concurrency {
        channel.concurrency = concurrency;
    }
    channel
}

fn retry(config: &config::RetryConfig) -> RetryPolicy {
    let jitter = if config.jitter { Jitter::Half } else { Jitter::None };
    RetryPolicy::attempts(config.attempts)
        .with_backoff(config.backoff, config.initial_delay, config.max_delay)
        .with_jitter(jitter)
}

/// What a `ca_file` holds.
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
fn certificates(path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("`ca_file`: cannot read {}", path.display());
        Error::new(ErrorKind::Config, "start", message).because(error)
    })
}
