//! What a publish and a subscribe may ask for.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use smol_str::SmolStr;

use super::BrokerPosition;
use crate::topic::{Group, Pattern};

/// How a batch is to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishOptions {
    /// Deliver not before this long from now; needs the capability `delay`.
    pub delay: Option<Duration>,
    /// How long to wait for room in a full buffer before `Full`; the broker's own limit when absent.
    pub timeout: Option<Duration>,
    /// Who receives the events.
    pub audience: Audience,
    /// The group whose handler is publishing: its own full buffer is never waited for.
    pub from_group: Option<Group>,
    /// What this publish overrides of how the broker places its events.
    pub wire: Option<Box<WireOverrides>>,
}

/// What one publish overrides of how a broker places its events: for talking to programs that expect
/// something else. Each needs the capability of its name; order holds only within what is left equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WireOverrides {
    /// The partition of the topic, counted from 0, instead of the key's.
    pub partition: Option<u32>,
    /// The exchange, instead of the configured one.
    pub exchange: Option<SmolStr>,
    /// The routing key, instead of the topic.
    pub routing_key: Option<SmolStr>,
    /// Headers beside those of the event, in this order. They are not attributes, and a subscriber of
    /// this library does not see them.
    pub headers: Vec<(SmolStr, Bytes)>,
}

impl PublishOptions {
    /// Sets the delay.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Sets the longest wait for room.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets who receives the events.
    #[must_use]
    pub fn with_audience(mut self, audience: Audience) -> Self {
        self.audience = audience;
        self
    }

    /// Names the group whose handler is publishing.
    #[must_use]
    pub fn with_from_group(mut self, group: Group) -> Self {
        self.from_group = Some(group);
        self
    }

    /// Sends to this partition of the topic, counted from 0, instead of the key's.
    #[must_use]
    pub fn with_partition(mut self, partition: u32) -> Self {
        self.overrides().partition = Some(partition);
        self
    }

    /// Sends through this exchange instead of the configured one.
    #[must_use]
    pub fn with_exchange(mut self, exchange: impl Into<SmolStr>) -> Self {
        self.overrides().exchange = Some(exchange.into());
        self
    }

    /// Sends with this routing key instead of the topic.
    #[must_use]
    pub fn with_routing_key(mut self, key: impl Into<SmolStr>) -> Self {
        self.overrides().routing_key = Some(key.into());
        self
    }

    /// Adds a header beside those of the event.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<SmolStr>, value: impl Into<Bytes>) -> Self {
        self.overrides().headers.push((name.into(), value.into()));
        self
    }

    fn overrides(&mut self) -> &mut WireOverrides {
        self.wire.get_or_insert_default()
    }
}

/// Who receives a published event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Audience {
    /// Every group and every broadcast subscriber.
    #[default]
    Everyone,
    /// Broadcast subscribers only, and nobody is no error: the local copy of what is routed both ways.
    BroadcastOnly,
}

/// Where a new group begins. A broadcast subscriber takes what is published from now on, unless it
/// asks for a time or a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartAt {
    /// The oldest event that the broker still has; where it keeps none, the group's creation.
    #[default]
    Beginning,
    /// What is published from now on.
    Latest,
    /// The first event accepted at or after this time; needs the capability `start_at_time`.
    Time(Timestamp),
    /// That very event in its partition, or the oldest after it that the broker still has; in other
    /// partitions and topics what was accepted at that event's time or later. Needs the capability
    /// `start_at_position`.
    Position(BrokerPosition),
}

/// What happens when a buffer is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The publisher waits, at most its time limit, and then gets `Full`.
    #[default]
    Block,
    /// The publisher gets `Full` at once.
    Error,
    /// The oldest undelivered event is dropped and counted. For what may lose events only:
    /// configuration wants the channel marked `lossy`.
    DropOldest,
}

/// Whether a group keeps the order of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Events of one topic and key are handled in order and never at the same time.
    #[default]
    PerKey,
    /// All members share freely.
    None,
}

/// How to subscribe.
///
/// `buffer`, `on_full`, `order`, `lanes` and `start` belong to the group: they apply when it is
/// new, and a group that exists keeps its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// The topics to take.
    pub topics: Vec<Pattern>,
    /// The group to join; without one this is a broadcast subscriber.
    pub group: Option<Group>,
    /// How many deliveries may be out, unsettled, at a time; at least 1.
    pub prefetch: usize,
    /// Where a new group, or this broadcast subscriber, begins.
    pub start: StartAt,
    /// How many undelivered events are kept; needs the capability `buffer`.
    pub buffer: Option<usize>,
    /// What happens when the buffer is full; `Error` needs the capability `buffer`, `DropOldest` needs
    /// `drop_oldest`.
    pub on_full: OnFull,
    /// Whether the order of a key is kept.
    pub order: Order,
    /// Whether more urgent events overtake less urgent ones; needs the capability `priority_lanes`.
    pub lanes: bool,
}

impl SubscribeOptions {
    /// How many deliveries may be out by default: enough to hide one hand-over between tasks, and
    /// small beside the default buffer of 10,000.
    pub const DEFAULT_PREFETCH: usize = 256;

    /// Joins `group` on `topics`.
    #[must_use]
    pub fn group(group: Group, topics: impl IntoIterator<Item = Pattern>) -> Self {
        Self { group: Some(group), ..Self::broadcast(topics) }
    }

    /// Subscribes on `topics` without a group: every such subscriber gets each event.
    #[must_use]
    pub fn broadcast(topics: impl IntoIterator<Item = Pattern>) -> Self {
        Self {
            topics: topics.into_iter().collect(),
            group: None,
            prefetch: Self::DEFAULT_PREFETCH,
            start: StartAt::default(),
            buffer: None,
            on_full: OnFull::default(),
            order: Order::default(),
            lanes: false,
        }
    }

    /// Sets how many deliveries may be out at a time.
    #[must_use]
    pub fn with_prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = prefetch;
        self
    }

    /// Sets where a new group begins.
    #[must_use]
    pub fn with_start(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// Sets how many undelivered events are kept, and what happens beyond.
    #[must_use]
    pub fn with_buffer(mut self, buffer: usize, on_full: OnFull) -> Self {
        self.buffer = Some(buffer);
        self.on_full = on_full;
        self
    }

    /// Sets whether the order of a key is kept.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Lets more urgent events overtake less urgent ones.
    #[must_use]
    pub fn with_lanes(mut self) -> Self {
        self.lanes = true;
        self
    }
}
