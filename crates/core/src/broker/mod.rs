//! The contract of a broker: it moves events between processes, or within one.
//!
//! A broker promises how deliveries come and go; it runs no handler, keeps no lane and knows no
//! policy. Those live, once, in the runtime of the bus.

mod admin;
mod capabilities;
mod delivery;
mod ext;
mod options;
mod position;
mod publishing;
mod subscription;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::event::Event;

pub use admin::{
    BrokerAdmin, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, GroupInfo, GroupSpec,
    StoredDeadLetter, TopicInfo,
};
pub use capabilities::{Capabilities, Durability};
pub use delivery::{
    DeadLetter, Delivery, FailureCause, Revocation, Settle, Settlement, Settling, Unsettled,
    Verdict,
};
pub use ext::BrokerExt;
pub use options::{
    Audience, OnFull, Order, PublishOptions, StartAt, SubscribeOptions, WireOverrides,
};
pub use position::BrokerPosition;
pub use publishing::{BatchResult, Publishing};
pub use subscription::{Subscription, SubscriptionExt};

/// Moves events between processes, or within one.
///
/// Five methods are required, and none has a default that could lie. Every broker passes the
/// conformance suite of `trunkline-testing`, against its real server.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// What this broker can do, pinned by its tests.
    fn capabilities(&self) -> &Capabilities;

    /// Publishes a batch.
    ///
    /// An event's result is Ok only when the broker has accepted responsibility for it. Events of one
    /// topic and key are accepted in the order of the batch; when one fails, later ones of its topic
    /// and key are not accepted and fail with `Aborted`. The answer is ready at once where nothing
    /// has to be waited for.
    ///
    /// # Errors
    /// Per event, in the result: `Full`, `TooLarge`, `Unroutable`, `Aborted`, `TimedOut` (ambiguous),
    /// `Disconnected`, `Closed`, `Encode`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome of the events that have no result yet unknown; retry
    /// with the same ids.
    fn publish<'a>(&'a self, events: &'a [Event], options: &'a PublishOptions) -> Publishing<'a>;

    /// Joins a group, or subscribes as a broadcast subscriber where the options name no group.
    ///
    /// Ready when it returns: whatever is published afterwards is delivered, also on topics that are
    /// made later.
    ///
    /// # Errors
    /// `Unsupported` before any I/O when an option asks for what the broker lacks; `Invalid` for
    /// options that contradict each other; `Closed`; `Disconnected`.
    ///
    /// # Cancel safety
    /// A dropped call leaves no member behind; the group itself may have been made.
    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>>;

    /// How the broker is, without waiting for a server that does not answer.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    async fn health(&self) -> Health;

    /// Flushes what was published, closes every subscription and refuses further work.
    ///
    /// Idempotent. Later calls on the broker fail with `Closed`.
    ///
    /// # Errors
    /// `TimedOut` when the deadline passed before everything was flushed.
    ///
    /// # Cancel safety
    /// A dropped call leaves the broker closing; call it again.
    async fn close(&self, deadline: Duration) -> Result<()>;

    /// The operations tools, where the broker has them.
    fn admin(&self) -> Option<&dyn BrokerAdmin> {
        None
    }
}

/// How a broker or store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// How often a lost connection to the server was made again; 0 where there is no server.
    pub reconnects: u64,
    /// Facts behind it, by name; never a credential.
    pub facts: Vec<(String, String)>,
}

/// The verdict of a health check, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Works.
    Up,
    /// Works in part: the facts say what does not.
    Degraded,
    /// Does not work, or is closed.
    Down,
}

impl Health {
    /// Healthy, without facts.
    #[must_use]
    pub const fn up() -> Self {
        Self { status: HealthStatus::Up, reconnects: 0, facts: Vec::new() }
    }

    /// Not working, and why.
    #[must_use]
    pub fn down(reason: impl Into<String>) -> Self {
        let facts = vec![("reason".to_owned(), reason.into())];
        Self { status: HealthStatus::Down, reconnects: 0, facts }
    }

    /// Sets how often a lost connection was made again.
    #[must_use]
    pub const fn with_reconnects(mut self, reconnects: u64) -> Self {
        self.reconnects = reconnects;
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.facts.push((name.into(), value.to_string()));
        self
    }
}

macro_rules! delegate_broker {
    ($($pointer:ty),+) => {$(
        #[async_trait]
        impl<B: Broker + ?Sized> Broker for $pointer {
            fn capabilities(&self) -> &Capabilities {
                (**self).capabilities()
            }

            fn publish<'a>(
                &'a self,
                events: &'a [Event],
                options: &'a PublishOptions,
            ) -> Publishing<'a> {
                (**self).publish(events, options)
            }

            async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Subscription>> {
                (**self).subscribe(options).await
            }

            async fn health(&self) -> Health {
                (**self).health().await
            }

            async fn close(&self, deadline: Duration) -> Result<()> {
                (**self).close(deadline).await
            }

            fn admin(&self) -> Option<&dyn BrokerAdmin> {
                (**self).admin()
            }
        }
    )+};
}

delegate_broker!(Box<B>, std::sync::Arc<B>);
