//! The contract of an outbox: events that are accepted durably and relayed to a broker later.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::event::Event;
use crate::idempotency::FencingToken;
use crate::store::Position;

/// Accepts events durably and hands them to one relay at a time, in order.
///
/// Events of one topic and key are relayed in the order they were accepted. A crash at any step
/// relays an event again, with the same id; it never skips one.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Accepts events, all or none.
    ///
    /// # Errors
    /// `Encode`, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; an event that is accepted twice is kept once.
    async fn accept(&self, events: &[Event]) -> Result<()>;

    /// Becomes the relay for at most `lease`, or `None` while another is.
    ///
    /// # Errors
    /// `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// A dropped call may hold the lease until it ends.
    async fn lead(&self, lease: Duration) -> Result<Option<FencingToken>>;

    /// The oldest events that are not relayed yet, at most `limit`, with their places.
    ///
    /// # Errors
    /// `Fenced` when another relay leads by now, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    async fn pending(&self, leader: FencingToken, limit: usize) -> Result<Vec<(Position, Event)>>;

    /// Marks events as relayed.
    ///
    /// # Errors
    /// `Fenced` when another relay leads by now, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// A dropped call may have marked them; they may be relayed again.
    async fn mark_relayed(&self, leader: FencingToken, relayed: &[Position]) -> Result<()>;
}
