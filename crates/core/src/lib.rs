//! The vocabulary and the contracts of trunkline.
//!
//! No I/O, no runtime and no driver type lives here. [`Event`] is the envelope, [`DomainEvent`] the
//! trait of a payload type, [`Broker`] moves events, [`EventStore`] keeps them, and a
//! [`RoutingStrategy`] decides where each goes. Backends implement these contracts; the bus runs
//! handlers over them.

mod attributes;
mod broker;
mod builder;
pub mod cloudevents;
mod codec;
mod domain_event;
mod error;
mod event;
mod forms;
mod hash;
mod id;
mod idempotency;
mod outbox;
mod partitioning;
mod routing;
mod store;
mod topic;
mod trace;

pub use attributes::{AttributeValue, Attributes, Kind, Priority};
pub use broker::{
    Audience, BatchResult, Broker, BrokerAdmin, BrokerExt, BrokerPosition, Capabilities,
    DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterVerdict, Delivery, Durability,
    FailureCause, GroupInfo, GroupSpec, Health, HealthStatus, OnFull, Order, PublishOptions,
    Publishing, Revocation, Settle, Settlement, Settling, StartAt, StoredDeadLetter,
    SubscribeOptions, Subscription, SubscriptionExt, TopicInfo, Unsettled, Verdict, WireOverrides,
};
pub use builder::{DEFAULT_SOURCE, EventBuilder};
pub use codec::{Codec, Data};
pub use domain_event::DomainEvent;
pub use error::{Error, ErrorKind, Result, RetryClass};
pub use event::{Event, Typed};
pub use hash::{murmur2, partition_of};
pub use id::{EventId, Identity};
pub use idempotency::{Claim, FencingToken, IdempotencyKey, IdempotencyStore};
pub use outbox::Outbox;
pub use partitioning::PartitionRules;
pub use routing::{Decision, Route, RouteContext, RoutingStrategy};
pub use store::{
    AppendConflict, Appended, Direction, EventStore, ExpectedVersion, Follow, Page, Position,
    ReadAll, ReadStream, Recorded, StreamVersion,
};
pub use topic::{Group, MAX_NAME_BYTES, Pattern, Topic};
pub use trace::TraceParent;

// They stand in public signatures.
pub use bytes;
pub use jiff;
pub use smol_str;

/// What generated code needs; not part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use bytes;
    pub use smol_str;

    /// A key or stream name from any value that displays as text.
    pub fn text_of(value: &impl std::fmt::Display) -> smol_str::SmolStr {
        smol_str::ToSmolStr::to_smolstr(value)
    }
}
