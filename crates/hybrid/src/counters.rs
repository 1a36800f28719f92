//! What the hybrid counts.

use std::sync::atomic::{AtomicU64, Ordering};

use trunkline_core::Route;

/// A snapshot of what a [`HybridBroker`](crate::HybridBroker) counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HybridCounters {
    /// Events that were decided Local and accepted, also by the remote broker in place of the local.
    pub routed_local: u64,
    /// Events that were decided Remote and accepted, also by the local broker in place of the remote.
    pub routed_remote: u64,
    /// Events that were decided Both and accepted.
    pub routed_both: u64,
    /// Events that were decided Local and sent to the remote broker because nobody local takes them.
    pub local_unroutable: u64,
    /// Events that the local broker accepted because the remote one could not be reached.
    pub remote_down_local: u64,
    /// Events decided Both whose local copy was refused: broadcast subscribers get the remote copy.
    pub local_copies_refused: u64,
    /// Remote copies that broadcast subscribers dropped because they had the local copy.
    pub echoes_dropped: u64,
}

/// The counters while they count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    routed: [AtomicU64; 3],
    pub(crate) local_unroutable: Counter,
    pub(crate) remote_down_local: Counter,
    pub(crate) local_copies_refused: Counter,
}

/// A number that only grows; read without regard to other numbers.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn accepted(&self, route: Route, count: usize) {
        self.routed[route as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, echoes_dropped: u64) -> HybridCounters {
        let routed = |route: Route| self.routed[route as usize].load(Ordering::Relaxed);
        HybridCounters {
            routed_local: routed(Route::Local),
            routed_remote: routed(Route::Remote),
            routed_both: routed(Route::Both),
            local_unroutable: self.local_unroutable.get(),
            remote_down_local: self.remote_down_local.get(),
            local_copies_refused: self.local_copies_refused.get(),
            echoes_dropped,
        }
    }
}
