//! What every event store promises: the properties of [`EventStore`].
//!
//! Besides what the contract says, a `Conflict` about a version carries the facts `expected` and
//! `actual`, where 0 stands for no stream.

mod append;
mod events;
mod filter;
mod follow;
mod idempotency;
mod limits;
mod order;
mod payload;
mod removal;
mod version;

use std::sync::Arc;
use std::time::Duration;

use trunkline_core::EventStore;

use crate::property::Property;

/// The limits that a store is to be made with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreLimits {
    /// How long an event is kept after its append; absent is for ever.
    pub ttl: Option<Duration>,
    /// How many events of a stream are kept; absent is all.
    pub max_events_per_stream: Option<usize>,
}

/// A promise of event stores.
pub type StoreProperty<S> = Property<Arc<S>, StoreLimits>;

/// Every promise of event stores.
#[must_use]
pub fn properties<S: EventStore>() -> Vec<StoreProperty<S>> {
    [
        append::properties(),
        version::properties(),
        idempotency::properties(),
        order::properties(),
        filter::properties(),
        follow::properties(),
        removal::properties(),
        payload::properties(),
        limits::properties(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
