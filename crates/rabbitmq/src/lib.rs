//! trunkline's broker over RabbitMQ.

mod admin;
mod arguments;
mod balance;
mod broker;
mod codec;
mod config;
mod consume;
mod delay;
mod error;
mod group_topology;
mod groups;
mod inbox;
mod job;
mod lane;
mod leave;
mod letters;
mod limit;
mod link;
mod log;
mod mutant;
mod names;
mod publish;
mod queue;
mod registry;
mod repair;
mod settle;
mod tap;
mod topology;
mod young;

pub use arguments::QueueArgument;
pub use broker::RabbitMqBroker;
pub use config::{Declare, ExchangeType, QueueType, RabbitMqConfig};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;

/// Locks state that a panic elsewhere cannot have left half changed.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
