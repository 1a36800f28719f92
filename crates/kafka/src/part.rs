//! A partition in the hands of a subscription, and what goes in and out of it.

use std::sync::Arc;
use std::time::Instant;

use trunkline_core::{Error, Topic};

use crate::codec::Extras;
use crate::track::Track;

/// A topic that is consumed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) id: u32,
    /// The physical name.
    pub(crate) name: String,
    /// The topic of its records; those of a topic of ours say theirs in a header.
    pub(crate) topic: Topic,
}

/// One assignment of one partition: a partition that goes and comes back is another one.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) source: Arc<Source>,
    pub(crate) partition: i32,
    pub(crate) track: Track,
    /// How many deliveries of it are out.
    pub(crate) out: u64,
    pub(crate) is_revoking: bool,
    /// Something has changed since the last commit.
    pub(crate) is_dirty: bool,
    /// With lanes: nothing is handed out before this offset was read.
    pub(crate) ahead: i64,
    /// Paused, because too much of it waits until it is due.
    pub(crate) is_held_back: bool,
}

/// A delivery that is out.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) part: u32,
    pub(crate) offset: i64,
    pub(crate) at: i64,
    pub(crate) rank: u8,
    pub(crate) defect: Option<Error>,
    pub(crate) extras: Option<Box<Extras>>,
}

/// An offset to be committed, and what goes with it.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) name: String,
    pub(crate) partition: i32,
    pub(crate) mark: i64,
    pub(crate) note: String,
}

/// Partitions to be paused, and to be resumed, by physical name.
#[derive(Debug, Default)]
pub(crate) struct HoldBack {
    pub(crate) pause: Vec<(String, i32)>,
    pub(crate) resume: Vec<(String, i32)>,
}

/// How a delivery comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Back {
    pub(crate) attempts: u32,
    pub(crate) redeliveries: u32,
    /// The attempts are to be remembered, also by the next owner.
    pub(crate) is_written: bool,
    /// It is not handed out earlier.
    pub(crate) until: Option<Instant>,
}

/// What a member knows of a partition of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) mark: i64,
    pub(crate) done_above: u64,
    pub(crate) out: u64,
}
