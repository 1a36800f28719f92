//! The SQLite part of the factory, where the feature is off.

use std::sync::Arc;

use trunkline_core::{Error, ErrorKind, EventStore, Result};

use crate::config::SqliteConfig;

pub(super) async fn open(_config: &SqliteConfig) -> Result<Arc<dyn EventStore>> {
    let message = "`store.type = \"sqlite\"` is not built in: enable the feature `sqlite`";
    Err(Error::new(ErrorKind::Config, "start", message))
}
