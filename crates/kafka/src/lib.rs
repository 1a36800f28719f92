//! trunkline's broker over Apache Kafka.
//!
//! [`KafkaBroker`] keeps the delivery contract of trunkline on a Kafka cluster: accepted means `acks=all`
//! from an idempotent producer, a partition belongs to one member of a group at a time, and what is
//! acknowledged out of order is remembered in the group's committed offsets. The README of this crate
//! lists the guarantees, the settings with the reasons for their defaults, and every physical name.

mod admin;
mod broker;
mod client;
mod codec;
mod config;
mod consume;
mod delay;
mod desk;
mod discovery;
mod error;
mod gate;
mod letters;
mod mutant;
mod names;
mod note;
mod offsets;
mod pace;
mod part;
mod partition_strategy;
mod poller;
mod position;
mod producer;
mod properties;
mod publish;
mod queue;
mod registry;
mod seat;
mod servers;
mod settle;
mod topics;
mod track;
mod watch;

pub use broker::KafkaBroker;
pub use config::KafkaConfig;
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use partition_strategy::PartitionStrategy;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: every critical section leaves its data whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
