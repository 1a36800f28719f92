//! The conformance suite of trunkline: what every backend promises, as tests that any backend can run.
//!
//! A backend proves itself in a test binary of its own, with `harness = false`:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use trunkline_core::{Capabilities, Durability};
//! use trunkline_testing::broker::{BrokerConditions, Need};
//! use trunkline_testing::{Fixture, Suite};
//! # use trunkline_memory::{MemoryBroker, MemoryConfig, MemoryStore, MemoryStoreConfig};
//!
//! async fn broker(wanted: BrokerConditions) -> trunkline_core::Result<Fixture<MemoryBroker>> {
//!     let mut config = MemoryConfig::default();
//!     config.buffer = wanted.buffer.unwrap_or(config.buffer);
//!     // … and the other conditions.
//!     Ok(Fixture::new(MemoryBroker::new(config)))
//! }
//!
//! fn main() -> ExitCode {
//!     let mut pinned = Capabilities::minimal("memory", Durability::Process);
//!     pinned.delay = true;
//!     pinned.priority_lanes = true;
//!     pinned.buffer = true;
//!     pinned.drop_oldest = true;
//!     pinned.dead_letters = true;
//!     pinned.cancel = true;
//!     pinned.shared_keys = true;
//!     Suite::new()
//!         .broker("memory/value", &pinned, broker)
//!         .bus("memory/value", &pinned, broker)
//!         .in_process("memory/value", &pinned, broker)
//!         // No other program can write to it.
//!         .may_skip(&[Need::ForeignWriter])
//!         .store("memory/value", |limits| async move {
//!             let config = MemoryStoreConfig::default()
//!                 .with_ttl(limits.ttl)
//!                 .with_max_events_per_stream(limits.max_events_per_stream);
//!             Ok(Fixture::new(MemoryStore::new(config)))
//!         })
//!         .run()
//! }
//! ```
//!
//! Every promise is a named property and a test of its own, such as
//! `memory/value/store/of_racing_writers_exactly_one_wins`. Each runs on a fresh runtime, a fresh
//! subject and within a time limit. [`broker`] holds the properties of a bare broker, [`bus`] those of
//! an event bus over it, and [`store`] those of event stores.
//!
//! Capabilities are pinned: an option is honoured by a broker that is pinned with it, and refused by name
//! by the others. A property that cannot run without what a broker lacks is excused: the run prints each
//! excuse with its reason, and their count, and fails when [`Suite::may_skip`] does not allow it.

mod authority;
pub mod broker;
pub mod bus;
mod failure;
mod faults;
mod fixture;
mod ground;
mod hooks;
mod member;
mod mutants;
mod property;
pub mod proxy;
mod record;
pub mod server;
pub mod store;
mod suite;
pub mod twin;

pub use authority::{Authority, Certified};
pub use failure::{Check, Failure};
pub use fixture::Fixture;
pub use hooks::RawHeaders;
pub use property::{Property, TIME_LIMIT};
pub use suite::Suite;
