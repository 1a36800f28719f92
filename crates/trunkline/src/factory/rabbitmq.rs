//! The RabbitMQ part of the factory.

use std::sync::Arc;

use trunkline_core::{Broker, Result};
use trunkline_rabbitmq::RabbitMqBroker;

use crate::config::{self, Config, RabbitMqConfig};

pub(super) async fn connect(config: &RabbitMqConfig, all: &Config) -> Result<Arc<dyn Broker>> {
    let settings = trunkline_rabbitmq::RabbitMqConfig::new(config.server.url.expose())?
        .with_partition_rules(all.partition_rules())
        .with_max_event_bytes(all.bus.max_event_bytes)
        .with_mode(config.server.mode);
    let mut settings = topology(settings, config);
    if let Some(timeout) = config.server.connect_timeout {
        settings = settings.with_connect_timeout(timeout);
    }
    if let Some(timeout) = all.bus.publish_timeout {
        settings = settings.with_publish_timeout(timeout);
    }
    if let Some(every) = config.heartbeat {
        settings = settings.with_heartbeat(every);
    }
    if config.confirm_channels.is_some() || config.confirm_window.is_some() {
        // What the broker has where only one of the two is configured.
        let channels = config.confirm_channels.unwrap_or(2);
        settings = settings.with_confirms(channels, config.confirm_window.unwrap_or(512));
    }
    if let Some(path) = &config.ca_file {
        settings = settings.with_ca_certificates(super::certificates(path)?);
    }
    Ok(Arc::new(RabbitMqBroker::connect(settings).await?))
}

/// What is named, declared and bound.
fn topology(
    mut settings: trunkline_rabbitmq::RabbitMqConfig,
    config: &RabbitMqConfig,
) -> trunkline_rabbitmq::RabbitMqConfig {
    use trunkline_rabbitmq::{Declare, ExchangeType, QueueArgument, QueueType};
    let exchange_type = match config.exchange_type {
        config::ExchangeType::Topic => ExchangeType::Topic,
        config::ExchangeType::Direct => ExchangeType::Direct,
        config::ExchangeType::Fanout => ExchangeType::Fanout,
        config::ExchangeType::Headers => ExchangeType::Headers,
    };
    let queue_type = match config.queue_type {
        config::QueueType::Quorum => QueueType::Quorum,
        config::QueueType::Classic => QueueType::Classic,
    };
    let declare = match config.declare {
        config::Declare::All => Declare::All,
        config::Declare::Own => Declare::Own,
        config::Declare::Nothing => Declare::Nothing,
    };
    settings = settings
        .with_exchange(config.exchange.as_deref().unwrap_or("trunkline"), exchange_type)
        .with_queue_type(queue_type)
        .with_declare(declare);
    if let Some(prefix) = &config.server.prefix {
        settings = settings.with_prefix(prefix.as_str());
    }
    for (name, value) in config.queue_arguments.iter() {
        let value = match value {
            config::PropertyValue::Text(text) => QueueArgument::Text(text.clone()),
            config::PropertyValue::Integer(number) => QueueArgument::Integer(*number),
            config::PropertyValue::Boolean(boolean) => QueueArgument::Boolean(*boolean),
        };
        settings = settings.with_queue_argument(name, value);
    }
    for (group, queues) in &config.group_queues {
        settings = settings.with_group_queues(group.clone(), queues.iter().cloned());
    }
    settings
}
