//! One typed event API for a service; how events travel is a line of configuration.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use trunkline::prelude::*;
//!
//! #[derive(Serialize, Deserialize, DomainEvent)]
//! #[event(topic = "orders.placed", key = customer)]
//! struct OrderPlaced {
//!     customer: String,
//!     total_cents: u64,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> trunkline::Result<()> {
//! let bus = EventBus::in_memory().await?;
//! let (done, mut handled) = tokio::sync::mpsc::unbounded_channel();
//! let billing = Consumer::group("billing").on(move |order: Typed<OrderPlaced>| {
//!     let done = done.clone();
//!     async move { done.send(format!("{} owes {} cents", order.customer, order.total_cents)) }
//! });
//! bus.subscribe(billing).await?;
//! bus.publish(OrderPlaced { customer: "ann".into(), total_cents: 1250 }).await?;
//! assert_eq!(handled.recv().await.as_deref(), Some("ann owes 1250 cents"));
//! bus.close(std::time::Duration::from_secs(5)).await
//! # }
//! ```
//!
//! The vocabulary and the contracts come from `trunkline-core`, the bus from `trunkline-bus`; each
//! optional crate is a feature: `macros`, `hybrid` and `sqlite`, which are on by default, and `redis`,
//! `kafka` and `rabbitmq`, which are not, because each brings the driver of a server.

pub mod config;
mod factory;

pub use config::Config;
pub use factory::{Assembled, EventBusExt, Hybrid};
pub use trunkline_bus::{
    Backoff, Channel, Consumer, ConsumerHandle, ConsumerMetrics, Context, EventBus,
    EventBusBuilder, Handler, HandlerError, Incoming, IntoHandler, Jitter, Metrics, Observation,
    OnUnhandled, Outcome, Plain, PublishMiddleware, RetryPolicy, plain,
};
pub use trunkline_core::*;
#[cfg(feature = "macros")]
pub use trunkline_macros::DomainEvent;

/// The in-memory broker and event store.
pub mod memory {
    pub use trunkline_memory::*;
}

/// The broker made of a local and a remote one, and its routing strategies.
#[cfg(feature = "hybrid")]
pub mod hybrid {
    pub use trunkline_hybrid::*;
}

/// The broker over Redis Streams.
#[cfg(feature = "redis")]
pub mod redis {
    pub use trunkline_redis::*;
}

/// The broker over Apache Kafka.
#[cfg(feature = "kafka")]
pub mod kafka {
    pub use trunkline_kafka::*;
}

/// The broker over RabbitMQ.
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq {
    pub use trunkline_rabbitmq::*;
}

/// The SQL event stores.
#[cfg(feature = "sqlite")]
pub mod sql {
    pub use trunkline_sql::*;
}

/// What generated code needs; not part of the public API.
#[doc(hidden)]
pub use trunkline_core::__private;

/// What most programs use.
pub mod prelude {
    pub use crate::{
        Config, Consumer, Context, Data, DomainEvent, Error, ErrorKind, Event, EventBus,
        EventBusExt, EventId, EventStore, Group, Handler, HandlerError, Kind, OnFull, Pattern,
        Priority, Result, RetryPolicy, StartAt, Topic, Typed, plain,
    };
}

/// Compiles and runs the example of the README.
#[cfg(all(doctest, feature = "macros"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
