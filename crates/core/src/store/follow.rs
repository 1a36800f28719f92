//! A live subscription to a store: catch up, then follow.

use std::collections::VecDeque;

use super::{EventStore, Position, ReadAll, Recorded};
use crate::error::Result;

/// Reads the global order from a position and goes on as events are appended.
///
/// There is one cursor and no live queue: being woken only means reading on from the cursor, so that
/// there is no gap and no duplicate at the seam between catching up and following.
///
/// ```no_run
/// # async fn example(store: impl trunkline_core::EventStore) -> trunkline_core::Result<()> {
/// use trunkline_core::{Follow, Position, ReadAll};
///
/// let mut follow = Follow::new(store, ReadAll::after(Position::START));
/// loop {
///     let recorded = follow.next().await?;
///     println!("{} {}", recorded.position, recorded.stream);
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Follow<S> {
    store: S,
    read: ReadAll,
    page: VecDeque<Recorded>,
}

impl<S: EventStore> Follow<S> {
    /// Follows what `read` takes, from where it starts.
    #[must_use]
    pub fn new(store: S, read: ReadAll) -> Self {
        // A page of none would never end.
        let limit = read.limit.max(1);
        Self { store, read: read.with_limit(limit), page: VecDeque::new() }
    }

    /// The next event; waits for one to be appended.
    ///
    /// # Errors
    /// As [`EventStore::read_all`] and [`EventStore::wait_for`].
    ///
    /// # Cancel safety
    /// Safe: a dropped call has taken no event.
    pub async fn next(&mut self) -> Result<Recorded> {
        loop {
            if let Some(recorded) = self.page.pop_front() {
                return Ok(recorded);
            }
            let page = self.store.read_all(&self.read).await?;
            self.read.after = page.next;
            self.page = page.events.into();
            if self.page.is_empty() && page.caught_up {
                self.store.wait_for(self.read.after).await?;
            }
        }
    }

    /// The place up to which everything has been read from the store.
    #[must_use]
    pub fn read_up_to(&self) -> Position {
        self.read.after
    }
}
