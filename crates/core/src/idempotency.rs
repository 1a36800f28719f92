//! The contract of an idempotency store: each event is completed once per handler.

use std::time::Duration;

use async_trait::async_trait;
use smol_str::SmolStr;

use crate::error::Result;
use crate::id::Identity;

/// What is claimed: one event for one handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// The handler's stable name.
    pub handler: SmolStr,
    /// The event.
    pub event: Identity,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Go on; the token fences later calls.
    Granted(FencingToken),
    /// Somebody else holds the claim until it is released or its lease ends.
    Held,
    /// The event has been completed for this handler.
    Completed,
}

/// Increases with every claim of a key, so that a store can refuse a holder whose lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(pub u64);

/// Remembers which events a handler has completed.
///
/// Completed once; a failed run releases its claim; a crash between the effect and the completion
/// runs the handler again, unless the completion joins the handler's own SQL transaction.
#[async_trait]
pub trait IdempotencyStore: Send + Sync + 'static {
    /// Claims a key for at most `lease`, unless it is claimed or completed.
    ///
    /// # Errors
    /// `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// A dropped call may hold the claim until the lease ends.
    async fn claim(&self, key: &IdempotencyKey, lease: Duration) -> Result<Claim>;

    /// Extends a claim while its handler runs.
    ///
    /// # Errors
    /// `Fenced` when the claim is no longer held, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// A dropped call may have extended the lease.
    async fn renew(&self, key: &IdempotencyKey, token: FencingToken, lease: Duration)
    -> Result<()>;

    /// Completes a claim; the key is remembered for at least `keep`.
    ///
    /// # Errors
    /// `Fenced` when the claim is no longer held, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// A dropped call may have completed the claim.
    async fn complete(
        &self,
        key: &IdempotencyKey,
        token: FencingToken,
        keep: Duration,
    ) -> Result<()>;

    /// Gives a claim back after a failed run.
    ///
    /// # Errors
    /// `Fenced` when the claim is no longer held, `Disconnected`, `Closed`.
    ///
    /// # Cancel safety
    /// A dropped call may have released the claim.
    async fn release(&self, key: &IdempotencyKey, token: FencingToken) -> Result<()>;
}
