//! Acknowledgements of one member that are not worked into its queue yet.

use std::sync::Mutex;

use crate::lock;

/// Gathers acknowledgements, so that the queue's lock is taken once for many.
pub(crate) struct Acked {
    /// A quarter of the prefetch: as soon as so many are settled, the member wants more.
    batch: usize,
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    acked: Vec<Option<u64>>,
    left: bool,
}

/// What became of an acknowledgement.
pub(super) enum Added {
    /// It waits for more.
    Kept,
    /// There are enough to be worked in.
    Full,
    /// The member has left: it was not taken.
    Left,
}

impl Acked {
    pub(super) fn new(prefetch: usize) -> Self {
        Self { batch: (prefetch / 4).clamp(1, 64), lanes: Mutex::default() }
    }

    pub(super) fn add(&self, lane: Option<u64>) -> Added {
        let mut lanes = lock(&self.lanes);
        if lanes.left {
            return Added::Left;
        }
        lanes.acked.push(lane);
        if lanes.acked.len() >= self.batch { Added::Full } else { Added::Kept }
    }

    /// Exchanges what was gathered for `emptied`.
    pub(super) fn exchange(&self, emptied: &mut Vec<Option<u64>>) {
        std::mem::swap(&mut lock(&self.lanes).acked, emptied);
    }

    /// Takes no more, and returns what came last.
    pub(super) fn leave(&self) -> Vec<Option<u64>> {
        let mut lanes = lock(&self.lanes);
        lanes.left = true;
        std::mem::take(&mut lanes.acked)
    }
}
