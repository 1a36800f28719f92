//! A live consumer of a broker.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;

use super::Delivery;
use crate::error::Result;

/// A live consumer, polled for deliveries.
///
/// Deliveries of one partition come in order, and a partition belongs to one member at a time; at
/// most `prefetch` deliveries are out; each may be settled in any order. Dropping the subscription is
/// leaving without a word: what is out and unsettled goes back to the broker as it is dropped.
#[async_trait]
pub trait Subscription: Send + Sync + 'static {
    /// Appends up to `max` deliveries to `out`.
    ///
    /// `Ready(Ok(true))` says that deliveries were appended, `Ready(Ok(false))` that the
    /// subscription has ended and none will come. Otherwise the task is woken when there is more. The
    /// caller polls again after `Ready(Ok(true))` until it is pending.
    ///
    /// # Errors
    /// Only what the backend cannot recover from by itself; the subscription has then ended.
    fn poll_deliveries(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<bool>>;

    /// Leaves cleanly: settlements so far land, and what was handed out but not settled goes back
    /// uncounted when its delivery is dropped.
    ///
    /// # Errors
    /// `TimedOut` when the deadline passed before the settlements landed.
    ///
    /// # Cancel safety
    /// A dropped call leaves the group without a word, as dropping the subscription does.
    async fn close(self: Box<Self>, deadline: Duration) -> Result<()>;
}

/// Conveniences on every subscription.
#[async_trait]
pub trait SubscriptionExt: Subscription {
    /// The next delivery, or `None` when the subscription has ended.
    ///
    /// # Errors
    /// As [`Subscription::poll_deliveries`].
    ///
    /// # Cancel safety
    /// Safe: a dropped call has taken no delivery.
    async fn next(&mut self) -> Result<Option<Delivery>> {
        let mut out = Vec::with_capacity(1);
        let more = poll_fn(|cx| self.poll_deliveries(cx, 1, &mut out)).await?;
        Ok(if more { out.pop() } else { None })
    }
}

impl<S: Subscription + ?Sized> SubscriptionExt for S {}
