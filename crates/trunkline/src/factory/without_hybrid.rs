//! The hybrid part of the factory, where the feature is off.

use std::convert::Infallible;
use std::sync::Arc;

use trunkline_core::{Broker, Error, ErrorKind, Result};

use crate::config::RoutingConfig;

/// No hybrid broker is built in.
pub type Hybrid = Infallible;

pub(super) fn broker(hybrid: &Hybrid) -> Arc<dyn Broker> {
    match *hybrid {}
}

pub(super) fn hybrid(
    _local: Arc<dyn Broker>,
    _remote: Arc<dyn Broker>,
    _routing: &RoutingConfig,
) -> Result<Hybrid> {
    let message = "`broker.type = \"hybrid\"` is not built in: enable the feature `hybrid`";
    Err(Error::new(ErrorKind::Config, "start", message))
}
