//! The operations tools of a broker.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{DeadLetter, OnFull, Order, StartAt};
use crate::error::Result;
use crate::event::Event;
use crate::id::EventId;
use crate::topic::{Group, Pattern, Topic};

/// Looks after the topics, groups and dead letters of a broker.
///
/// # Cancel safety
/// Every method may be dropped and called again; a change may have happened all the same.
#[async_trait]
pub trait BrokerAdmin: Send + Sync {
    /// The topics that exist, by name.
    ///
    /// # Errors
    /// `Closed`, `Disconnected`.
    async fn topics(&self) -> Result<Vec<TopicInfo>>;

    /// The groups that exist, with their lag, by name.
    ///
    /// # Errors
    /// `Closed`, `Disconnected`.
    async fn groups(&self) -> Result<Vec<GroupInfo>>;

    /// Makes a durable group, or adds topics to it; events published from now on wait for its
    /// members.
    ///
    /// # Errors
    /// `Unsupported` for a setting that the broker lacks, `Invalid`, `Closed`, `Disconnected`.
    async fn declare_group(&self, spec: GroupSpec) -> Result<()>;

    /// Deletes a group and what waits for it; its dead letters stay. `false` when there is none.
    ///
    /// # Errors
    /// `Conflict` while the group has members, `Closed`, `Disconnected`.
    async fn delete_group(&self, group: &Group) -> Result<bool>;

    /// Reads dead letters, oldest first, without removing them.
    ///
    /// # Errors
    /// `Closed`, `Disconnected`.
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<StoredDeadLetter>>;

    /// Sends a dead letter back to its group, or discards it.
    ///
    /// # Errors
    /// `NotFound` when it has been settled before, `Full` when the group has no room,
    /// `Closed`, `Disconnected`.
    async fn settle_dead_letter(&self, id: &DeadLetterId, verdict: DeadLetterVerdict)
    -> Result<()>;

    /// Cancels a publish that was delayed and is not due yet. `false` when there is none.
    ///
    /// # Errors
    /// `Unsupported` where the broker cannot take a delayed event back, `Closed`, `Disconnected`.
    async fn cancel(&self, id: &EventId) -> Result<bool>;
}

/// A topic that exists. Brokers whose topics have no life of their own list those that still hold
/// events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicInfo {
    /// The topic.
    pub name: Topic,
    /// The events that the broker keeps of it.
    pub events: u64,
}

/// A durable group that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupInfo {
    /// The group.
    pub name: Group,
    /// The topics that it takes.
    pub topics: Vec<Pattern>,
    /// Its live members.
    pub members: usize,
    /// Events that wait to be delivered to it, delayed ones included.
    pub lag: u64,
    /// Events that are delivered and not settled.
    pub in_flight: u64,
    /// Events that a full buffer has dropped, where its policy is to do so.
    pub dropped: u64,
}

/// A durable group to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSpec {
    /// The group.
    pub name: Group,
    /// The topics that it takes.
    pub topics: Vec<Pattern>,
    /// Where it begins.
    pub start: StartAt,
    /// How many undelivered events it keeps.
    pub buffer: Option<usize>,
    /// What happens when the buffer is full.
    pub on_full: OnFull,
    /// Whether the order of a key is kept.
    pub order: Order,
    /// Whether more urgent events overtake less urgent ones.
    pub lanes: bool,
}

impl GroupSpec {
    /// A group with the broker's defaults.
    #[must_use]
    pub fn new(name: Group, topics: impl IntoIterator<Item = Pattern>) -> Self {
        Self {
            name,
            topics: topics.into_iter().collect(),
            start: StartAt::default(),
            buffer: None,
            on_full: OnFull::default(),
            order: Order::default(),
            lanes: false,
        }
    }
}

/// Names one dead letter of one broker; opaque.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeadLetterId(pub SmolStr);

/// Which dead letters to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only those of this group.
    pub group: Option<Group>,
    /// Only those of this topic.
    pub topic: Option<Topic>,
    /// At most so many; absent is all.
    pub limit: Option<usize>,
}

/// A dead letter as the broker keeps it: the event with its raw bytes, and why it was given up.
#[derive(Debug, Clone)]
pub struct StoredDeadLetter {
    /// Its name.
    pub id: DeadLetterId,
    /// The group that gave the event up; absent for a broadcast subscriber.
    pub group: Option<Group>,
    /// The event, with its topic, attributes and data.
    pub event: Event,
    /// Why and when it was given up.
    pub letter: DeadLetter,
}

/// What to do with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterVerdict {
    /// Deliver it to its group again, with no attempts written to it.
    Redrive,
    /// Forget it.
    Discard,
}
