//! Entries that a subscription has read, and what is known of them.

use trunkline_core::{Error, Event};

use crate::codec::EntryId;

/// One partition of a subscription, as its entries name it: never used again for another.
pub(crate) type PartitionId = u32;

/// Where an entry stands on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: PartitionId,
    /// Whether it stands in the group's own stream of retries.
    pub(crate) is_retry: bool,
    pub(crate) id: EntryId,
}

/// An entry that was read.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) event: Event,
    pub(crate) place: Place,
    /// The order of reading; what comes back is put before what was read later.
    pub(crate) seq: u64,
    pub(crate) attempts: u32,
    pub(crate) redeliveries: u32,
    pub(crate) defect: Option<Error>,
    /// Whether attempts of it are written beside the stream.
    pub(crate) is_noted: bool,
    /// Whether it may be what killed its last members: it goes out when no other such is out.
    pub(crate) is_suspect: bool,
}

/// What is remembered of an entry while it is out.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) place: Place,
    pub(crate) seq: u64,
    pub(crate) redeliveries: u32,
    pub(crate) is_noted: bool,
    pub(crate) defect: Option<Error>,
    pub(crate) is_suspect: bool,
    pub(crate) lane: Option<u64>,
}

/// Acknowledgements that are not on the server yet.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    pub(crate) places: Vec<Place>,
    pub(crate) noted: Vec<Place>,
}

/// How many entries are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) out: usize,
    pub(crate) ready: usize,
    pub(crate) waiting: usize,
}
