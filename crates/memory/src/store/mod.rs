//! The event store: streams and a global order in this process's memory.

mod config;
mod indexes;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use trunkline_core::{
    AppendConflict, Appended, Error, ErrorKind, Event, EventStore, ExpectedVersion, Page, Position,
    ReadAll, ReadStream, Recorded, Result, StreamVersion,
};

use self::state::State;
use crate::lock;

pub use self::config::MemoryStoreConfig;

/// Keeps events in this process's memory, as long as the process lives.
///
/// Keeps the [`Event`] itself and encodes nothing: reading gives back the very value that was
/// published. Correlation lookups go by an index; other filters look at every event after the
/// position. Events that the configuration's limits, a truncation or a deletion removes leave every
/// index; appending one of them again records it anew.
///
/// ```
/// use trunkline_core::{Data, Event, EventStore, ExpectedVersion, ReadStream, Topic};
/// use trunkline_memory::{MemoryStore, MemoryStoreConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trunkline_core::Result<()> {
/// let store = MemoryStore::new(MemoryStoreConfig::default());
/// let placed = Event::from_data("OrderPlaced", Topic::from_static("orders"), Data::json("{}"));
/// store.append("order-7", ExpectedVersion::NoStream, &[placed.build()?]).await?;
/// let recorded = store.read_stream("order-7", &ReadStream::default()).await?;
/// assert_eq!(recorded[0].version, 1);
/// # Ok(())
/// # }
/// ```
pub struct MemoryStore {
    config: MemoryStoreConfig,
    state: Mutex<State>,
    /// Sent under the lock of `state`, so that it never goes back.
    head: watch::Sender<u64>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(config: MemoryStoreConfig) -> Self {
        Self { config, state: Mutex::default(), head: watch::Sender::new(0) }
    }

    /// Runs `work` on what is there now: what has outlived the TTL is gone before.
    fn with_state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        if let Some(ttl) = self.config.ttl {
            state.expire(Instant::now(), ttl);
        }
        work(&mut state)
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(
        &self,
        stream: &str,
        expected: ExpectedVersion,
        events: &[Event],
    ) -> Result<Vec<Appended>> {
        self.with_state(|state| {
            let appended = state.append(stream, expected, events)?;
            if let Some(max) = self.config.max_events_per_stream {
                state.keep_newest(stream, max);
            }
            self.head.send_replace(state.head());
            Ok(appended)
        })
        .map_err(|conflict: AppendConflict| conflict.into_error(stream))
    }

    async fn read_stream(&self, stream: &str, read: &ReadStream) -> Result<Vec<Recorded>> {
        Ok(self.with_state(|state| state.read_stream(stream, read)))
    }

    async fn read_all(&self, read: &ReadAll) -> Result<Page> {
        Ok(self.with_state(|state| state.read_all(read)))
    }

    async fn head(&self) -> Result<Position> {
        Ok(Position::from_raw(*self.head.borrow()))
    }

    async fn truncate_stream(&self, stream: &str, before: StreamVersion) -> Result<u64> {
        Ok(self.with_state(|state| state.truncate(stream, before)))
    }

    async fn delete_stream(&self, stream: &str) -> Result<u64> {
        Ok(self.with_state(|state| state.delete(stream)))
    }

    async fn wait_for(&self, position: Position) -> Result<()> {
        let mut head = self.head.subscribe();
        let beyond = head.wait_for(|head| *head > position.to_raw()).await;
        beyond.map(drop).map_err(|gone| {
            Error::new(ErrorKind::Closed, "wait", "the store is gone").because(gone)
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("config", &self.config)
            .field("head", &*self.head.borrow())
            .finish_non_exhaustive()
    }
}
