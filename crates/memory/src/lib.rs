//! The reference broker and event store of trunkline, inside one process.
//!
//! [`MemoryBroker`] keeps every promise that the other brokers keep, save that what it accepted lives
//! as long as the process: tests that pass on it say something about the real ones.

mod admin;
mod broker;
mod config;
mod consume;
mod error;
mod history;
mod letters;
mod publish;
mod queue;
mod store;
mod topology;

pub use broker::MemoryBroker;
pub use config::MemoryConfig;
pub use store::{MemoryStore, MemoryStoreConfig};

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Locks, also after a panic elsewhere: every critical section leaves its data whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time when `wait` will have passed; a wait without end is one of a hundred years.
fn in_future(wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}
