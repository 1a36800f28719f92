//! The contract of an event store: the ordered events of aggregates, and a global order over all.

mod conflict;
mod follow;
mod types;

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::event::Event;

pub use conflict::AppendConflict;
pub use follow::Follow;
pub use types::{
    Appended, Direction, ExpectedVersion, Page, Position, ReadAll, ReadStream, Recorded,
    StreamVersion,
};

/// Keeps events in streams, and all of them in one global order.
///
/// A reader that follows positions never skips an event that commits late. Appends are idempotent by
/// (tenant, source, id).
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Appends `events` to `stream`, all or none.
    ///
    /// Events that the store has already are not written again: with all of them known the first
    /// result is returned again.
    ///
    /// # Errors
    /// `Conflict` when the stream is not at the expected version, or when only some of the events
    /// are known already; `Encode` when a payload does not encode; `Disconnected`; `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; append the same events again.
    async fn append(
        &self,
        stream: &str,
        expected: ExpectedVersion,
        events: &[Event],
    ) -> Result<Vec<Appended>>;

    /// Reads a stream from a version, forward or backward; a stream that does not exist is empty.
    ///
    /// # Errors
    /// `Disconnected`, `Closed`, `Decode` when a stored event is damaged.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    async fn read_stream(&self, stream: &str, read: &ReadStream) -> Result<Vec<Recorded>>;

    /// Reads one page of the global order after a position.
    ///
    /// # Errors
    /// `Disconnected`, `Closed`, `Decode` when a stored event is damaged.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    async fn read_all(&self, read: &ReadAll) -> Result<Page>;

    /// The safe floor: every event at or before it is visible, and none will appear there later.
    ///
    /// # Errors
    /// `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    async fn head(&self) -> Result<Position>;

    /// Removes the events of a stream whose version is below `before`; versions go on from where
    /// they were. Returns how many were removed.
    ///
    /// # Errors
    /// `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// A dropped call may have removed them.
    async fn truncate_stream(&self, stream: &str, before: StreamVersion) -> Result<u64>;

    /// Removes a stream. Appending to it later starts again at version 1. Returns how many events
    /// were removed.
    ///
    /// # Errors
    /// `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// A dropped call may have removed it.
    async fn delete_stream(&self, stream: &str) -> Result<u64>;

    /// Waits until there may be an event after `position`; may return early.
    ///
    /// # Errors
    /// `Closed`, `Disconnected`.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    async fn wait_for(&self, position: Position) -> Result<()>;
}

macro_rules! delegate_store {
    ($($pointer:ty),+) => {$(
        #[async_trait]
        impl<S: EventStore + ?Sized> EventStore for $pointer {
            async fn append(
                &self,
                stream: &str,
                expected: ExpectedVersion,
                events: &[Event],
            ) -> Result<Vec<Appended>> {
                (**self).append(stream, expected, events).await
            }

            async fn read_stream(&self, stream: &str, read: &ReadStream) -> Result<Vec<Recorded>> {
                (**self).read_stream(stream, read).await
            }

            async fn read_all(&self, read: &ReadAll) -> Result<Page> {
                (**self).read_all(read).await
            }

            async fn head(&self) -> Result<Position> {
                (**self).head().await
            }

            async fn truncate_stream(&self, stream: &str, before: StreamVersion) -> Result<u64> {
                (**self).truncate_stream(stream, before).await
            }

            async fn delete_stream(&self, stream: &str) -> Result<u64> {
                (**self).delete_stream(stream).await
            }

            async fn wait_for(&self, position: Position) -> Result<()> {
                (**self).wait_for(position).await
            }
        }
    )+};
}

delegate_store!(Box<S>, std::sync::Arc<S>);
