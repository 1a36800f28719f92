//! The RabbitMQ part of the factory, where the feature is off.

use std::sync::Arc;

use trunkline_core::{Broker, Error, ErrorKind, Result};

use crate::config::{Config, RabbitMqConfig};

pub(super) async fn connect(_config: &RabbitMqConfig, _all: &Config) -> Result<Arc<dyn Broker>> {
    let message = "the broker type `rabbitmq` is not built in: enable the feature `rabbitmq`";
    Err(Error::new(ErrorKind::Config, "start", message))
}
