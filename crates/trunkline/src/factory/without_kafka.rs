//! The Kafka part of the factory, where the feature is off.

use std::sync::Arc;

use trunkline_core::{Broker, Error, ErrorKind, Result};

use crate::config::{Config, KafkaConfig};

pub(super) async fn connect(_config: &KafkaConfig, _all: &Config) -> Result<Arc<dyn Broker>> {
    let message = "the broker type `kafka` is not built in: enable the feature `kafka`";
    Err(Error::new(ErrorKind::Config, "start", message))
}
