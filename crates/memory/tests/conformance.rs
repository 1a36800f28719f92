//! The conformance suite on the memory broker and store.

use std::process::ExitCode;
use std::sync::Arc;

use trunkline_core::{Broker, Capabilities, Durability, EventStore};
use trunkline_memory::{MemoryBroker, MemoryConfig, MemoryStore, MemoryStoreConfig};
use trunkline_testing::broker::{BrokerConditions, Need};
use trunkline_testing::store::StoreLimits;
use trunkline_testing::{Fixture, Suite};

/// Enough for every event that a property publishes.
const HISTORY: usize = 100_000;

fn capabilities() -> Capabilities {
    let mut pinned = Capabilities::minimal("memory", Durability::Process);
    pinned.delay = true;
    pinned.priority_lanes = true;
    pinned.buffer = true;
    pinned.drop_oldest = true;
    pinned.dead_letters = true;
    pinned.cancel = true;
    pinned.shared_keys = true;
    pinned
}

fn capabilities_with_history() -> Capabilities {
    let mut pinned = capabilities();
    pinned.history = true;
    pinned.start_at_time = true;
    pinned.start_at_position = true;
    pinned
}

fn config(conditions: &BrokerConditions) -> MemoryConfig {
    let mut config = MemoryConfig::default();
    config.buffer = conditions.buffer.unwrap_or(config.buffer);
    config.publish_timeout = conditions.publish_timeout.unwrap_or(config.publish_timeout);
    config.max_event_bytes = conditions.max_event_bytes.unwrap_or(config.max_event_bytes);
    config.max_dead_letters = conditions.max_dead_letters.unwrap_or(config.max_dead_letters);
    config
}

async fn broker(conditions: BrokerConditions) -> trunkline_core::Result<Fixture<MemoryBroker>> {
    Ok(Fixture::new(MemoryBroker::new(config(&conditions))))
}

async fn boxed(conditions: BrokerConditions) -> trunkline_core::Result<Fixture<Box<dyn Broker>>> {
    Ok(Fixture::new(Box::new(MemoryBroker::new(config(&conditions)))))
}

async fn shared(conditions: BrokerConditions) -> trunkline_core::Result<Fixture<Arc<dyn Broker>>> {
    Ok(Fixture::new(Arc::new(MemoryBroker::new(config(&conditions)))))
}

async fn with_history(
    conditions: BrokerConditions,
) -> trunkline_core::Result<Fixture<MemoryBroker>> {
    Ok(Fixture::new(MemoryBroker::new(
        config(&conditions).with_history(conditions.retained.unwrap_or(HISTORY)),
    )))
}

fn store(limits: StoreLimits) -> MemoryStore {
    let config = MemoryStoreConfig::default()
        .with_ttl(limits.ttl)
        .with_max_events_per_stream(limits.max_events_per_stream);
    MemoryStore::new(config)
}

fn main() -> ExitCode {
    Suite::new()
        .broker("memory/value", &capabilities(), broker)
        .broker("memory/boxed", &capabilities(), boxed)
        .broker("memory/shared", &capabilities(), shared)
        .broker("memory/history", &capabilities_with_history(), with_history)
        .bus("memory/value", &capabilities(), broker)
        .bus("memory/boxed", &capabilities(), boxed)
        .bus("memory/shared", &capabilities(), shared)
        .bus("memory/history", &capabilities_with_history(), with_history)
        .in_process("memory/value", &capabilities(), broker)
        .in_process("memory/boxed", &capabilities(), boxed)
        .in_process("memory/shared", &capabilities(), shared)
        .in_process("memory/history", &capabilities_with_history(), with_history)
        .faults("memory/value", &capabilities(), broker)
        // There is no server that could fail or be written to.
        .may_skip(&[Need::Server, Need::ForeignWriter])
        .store("memory/value", |limits| async move { Ok(Fixture::new(store(limits))) })
        .store("memory/boxed", |limits| async move {
            Ok(Fixture::new(Box::new(store(limits)) as Box<dyn EventStore>))
        })
        .store("memory/shared", |limits| async move {
            Ok(Fixture::new(Arc::new(store(limits)) as Arc<dyn EventStore>))
        })
        .run()
}
