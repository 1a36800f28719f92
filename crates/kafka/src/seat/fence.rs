//! Whether this process still owns what it holds, and what must end before it owns it no longer.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Seat;
use crate::lock;

/// How waiting for deliveries that are out has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Nothing is out any more.
    Whole,
    /// The time was over first.
    Late,
    /// Not yet: a settlement waits for a commit, and others perhaps for that settlement.
    CommitWanted,
}

impl Seat {
    /// Waits until nothing of these partitions is out.
    pub(crate) fn drain(&self, ids: &[u32], deadline: Instant) -> Drained {
        let mut desk = self.desk();
        loop {
            if desk.out_of(ids) == 0 {
                return Drained::Whole;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Drained::Late;
            }
            if desk.commits_wanted > desk.commits_made {
                return Drained::CommitWanted;
            }
            desk = self.wait_on(desk, left);
        }
    }

    /// The polling thread goes round once more.
    pub(crate) fn go_round(&self) {
        let mut last = lock(&self.last_round);
        if last.elapsed() > self.suspicion {
            self.is_suspect.store(true, Ordering::Release);
        }
        *last = Instant::now();
    }

    /// How long ago that was.
    pub(crate) fn since_round(&self) -> Duration {
        lock(&self.last_round).elapsed()
    }

    /// The group has given its partitions to others, because it was not polled in time.
    pub(crate) fn throw_out(&self) {
        self.is_thrown_out.store(true, Ordering::Release);
    }

    /// Whether that has happened, and it has not been given partitions since.
    pub(crate) fn is_thrown_out(&self) -> bool {
        self.is_thrown_out.load(Ordering::Acquire)
    }

    /// Whether this process may have lost its partitions without having noticed.
    pub(crate) fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Acquire)
            || (!self.is_draining.load(Ordering::Acquire)
                && lock(&self.last_round).elapsed() > self.suspicion)
    }

    /// Partitions have gone, with what is out of them.
    pub(crate) fn tell_revoked(&self) {
        self.revoked.notify_waiters();
    }

    /// Waits until a delivery's partition has gone.
    pub(crate) async fn revoked(&self, token: u64) {
        loop {
            let mut told = std::pin::pin!(self.revoked.notified());
            told.as_mut().enable();
            if self.desk().check(token).is_err() || self.is_over.load(Ordering::Acquire) {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn trust(&self) {
        self.is_suspect.store(false, Ordering::Release);
        self.committed.notify_waiters();
    }

    /// While the polling thread waits for handlers, it goes round no more, and the group knows of it.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.trust();
    }

    pub(crate) fn end_drain(&self) {
        *lock(&self.last_round) = Instant::now();
        self.is_draining.store(false, Ordering::Release);
    }

    /// Waits until it is known that the partitions are still this member's, or are not.
    pub(crate) async fn verify(&self) {
        loop {
            let mut told = std::pin::pin!(self.committed.notified());
            told.as_mut().enable();
            if !self.is_suspect() || self.is_over.load(Ordering::Acquire) {
                return;
            }
            self.want_commit();
            told.await;
        }
    }
}
