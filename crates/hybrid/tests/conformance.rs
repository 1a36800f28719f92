//! The conformance suite on hybrids of two memory brokers, one for each route by default.

use std::process::ExitCode;

use trunkline_core::{Capabilities, Durability, Result, Route};
use trunkline_hybrid::{HybridBroker, RoutingRules, RulesStrategy};
use trunkline_memory::{MemoryBroker, MemoryConfig};
use trunkline_testing::broker::{BrokerConditions, Need};
use trunkline_testing::{Fixture, Suite};

fn capabilities() -> Capabilities {
    let mut pinned = Capabilities::minimal("hybrid", Durability::Process);
    pinned.delay = true;
    pinned.priority_lanes = true;
    pinned.buffer = true;
    pinned.drop_oldest = true;
    pinned.dead_letters = true;
    pinned.cancel = true;
    pinned.shared_keys = true;
    pinned
}

fn memory(conditions: &BrokerConditions) -> MemoryBroker {
    let mut config = MemoryConfig::default();
    config.buffer = conditions.buffer.unwrap_or(config.buffer);
    config.publish_timeout = conditions.publish_timeout.unwrap_or(config.publish_timeout);
    config.max_event_bytes = conditions.max_event_bytes.unwrap_or(config.max_event_bytes);
    config.max_dead_letters = conditions.max_dead_letters.unwrap_or(config.max_dead_letters);
    MemoryBroker::new(config)
}

fn hybrid(conditions: &BrokerConditions, default: Route) -> Result<Fixture<HybridBroker>> {
    let rules = RoutingRules { default, ..RoutingRules::default() };
    let (local, remote) = (memory(conditions), memory(conditions));
    Ok(Fixture::new(HybridBroker::new(local, remote, RulesStrategy::new(rules)?)))
}

async fn remote(conditions: BrokerConditions) -> Result<Fixture<HybridBroker>> {
    hybrid(&conditions, Route::Remote)
}

async fn local(conditions: BrokerConditions) -> Result<Fixture<HybridBroker>> {
    hybrid(&conditions, Route::Local)
}

async fn both(conditions: BrokerConditions) -> Result<Fixture<HybridBroker>> {
    hybrid(&conditions, Route::Both)
}

fn main() -> ExitCode {
    Suite::new()
        .broker("hybrid/remote", &capabilities(), remote)
        .broker("hybrid/local", &capabilities(), local)
        .broker("hybrid/both", &capabilities(), both)
        .bus("hybrid/remote", &capabilities(), remote)
        .bus("hybrid/local", &capabilities(), local)
        .bus("hybrid/both", &capabilities(), both)
        .in_process("hybrid/remote", &capabilities(), remote)
        .in_process("hybrid/local", &capabilities(), local)
        .in_process("hybrid/both", &capabilities(), both)
        .faults("hybrid/remote", &capabilities(), remote)
        // Both of its brokers are within this process.
        .may_skip(&[Need::Server, Need::ForeignWriter])
        .run()
}
