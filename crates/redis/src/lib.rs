//! trunkline's broker over Redis Streams.
//!
//! See the crate's README for its guarantees, settings and physical names.

mod acks;
mod admin;
mod balance;
mod book;
mod broadcast;
mod broker;
mod codec;
mod config;
mod consume;
mod discover;
mod doubts;
mod entry;
mod error;
mod handover;
mod index;
mod letters;
mod link;
mod member;
mod mutant;
mod names;
mod pipeline;
mod position;
mod publish;
mod reader;
mod resolve;
mod schedule;
mod scripts;
mod settle;
mod transact;
mod trim;
mod waiter;

pub use broker::RedisBroker;
pub use config::RedisConfig;
#[cfg(feature = "mutants")]
pub use mutant::Mutant;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; what a panic elsewhere left behind is still whole, since every change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
