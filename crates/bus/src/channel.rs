//! Channels: named, configured sets of topics.

use std::time::Duration;

use trunkline_core::{Group, OnFull, Order, Pattern};

use crate::policy::{OnUnhandled, RetryPolicy};

/// A named set of topics, and the policies of those who consume them.
///
/// The first channel, in order, that covers a consumer's topics gives the consumer what it does not
/// set itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Channel {
    /// The name, in errors and logs.
    pub name: String,
    /// The topics of the channel.
    pub topics: Vec<Pattern>,
    /// Durable groups that are made when the bus starts, before anything is published.
    pub consumers: Vec<Group>,
    /// Undelivered events that each group keeps; the broker's own default when absent. Needs the
    /// capability `buffer`, which brokers with a server lack.
    pub buffer: Option<usize>,
    /// What happens when the buffer is full, or the room for unanswered publishes; `Error` needs one of
    /// the two.
    pub on_full: OnFull,
    /// Deliveries that each consumer holds, waiting ones included; as many as its concurrency asks
    /// for when absent.
    pub prefetch: Option<usize>,
    /// Publishes that may be without an answer at a time; any number when absent. For brokers with a
    /// server, which may be slow or away.
    pub unconfirmed: Option<usize>,
    /// Events of each handler that run at a time.
    pub concurrency: usize,
    /// Whether the order of a key is kept.
    pub order: Order,
    /// Whether more urgent events overtake less urgent ones.
    pub lanes: bool,
    /// What happens when an attempt fails.
    pub retry: RetryPolicy,
    /// The longest time an attempt may take.
    pub timeout: Option<Duration>,
    /// What happens to types that no handler takes.
    pub on_unhandled: OnUnhandled,
}

impl Channel {
    /// A channel of these topics, with the defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, topics: impl IntoIterator<Item = Pattern>) -> Self {
        Self {
            name: name.into(),
            topics: topics.into_iter().collect(),
            consumers: Vec::new(),
            buffer: None,
            on_full: OnFull::default(),
            prefetch: None,
            unconfirmed: None,
            // One at a time is right for every handler; more is a decision.
            concurrency: 1,
            order: Order::default(),
            lanes: false,
            retry: RetryPolicy::default(),
            timeout: None,
            on_unhandled: OnUnhandled::default(),
        }
    }

    /// Whether the channel covers a consumer of these topics.
    #[must_use]
    pub fn covers(&self, topics: &[Pattern]) -> bool {
        let covered = |topic: &Pattern| self.topics.iter().any(|own| own.covers(topic));
        !topics.is_empty() && topics.iter().all(covered)
    }
}
