//! The Redis part of the factory, where the feature is off.

use std::sync::Arc;

use trunkline_core::{Broker, Error, ErrorKind, Result};

use crate::config::{Config, RedisConfig};

pub(super) async fn connect(_config: &RedisConfig, _all: &Config) -> Result<Arc<dyn Broker>> {
    let message = "the broker type `redis` is not built in: enable the feature `redis`";
    Err(Error::new(ErrorKind::Config, "start", message))
}
