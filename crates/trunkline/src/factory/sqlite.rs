//! The SQLite part of the factory.

use std::sync::Arc;

use trunkline_core::{EventStore, Result};
use trunkline_sql::SqliteStore;

use crate::config::SqliteConfig;

pub(super) async fn open(config: &SqliteConfig) -> Result<Arc<dyn EventStore>> {
    let settings = trunkline_sql::SqliteConfig::default()
        .with_ttl(config.retention.ttl)
        .with_max_events_per_stream(super::max_events(&config.retention));
    Ok(Arc::new(SqliteStore::open(config.url.expose(), settings).await?))
}
