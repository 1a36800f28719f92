//! The event bus of trunkline: the publish pipeline and the consumer runtime.
//!
//! A broker promises how deliveries come and go; everything else about handling them lives here,
//! once: lanes per key, concurrency, attempts, time limits, panics, dead letters, and draining.

mod builder;
mod bus;
mod channel;
mod consumer;
mod context;
mod handler;
mod intake;
mod lanes;
mod metrics;
mod middleware;
mod policy;
mod publish;
mod runtime;
mod span;
mod worker;

pub use builder::EventBusBuilder;
pub use bus::{ConsumerHandle, EventBus};
pub use channel::Channel;
pub use consumer::Consumer;
pub use context::Context;
pub use handler::{Handler, HandlerError, Incoming, IntoHandler, Outcome, Plain, plain};
pub use metrics::{ConsumerMetrics, Metrics};
pub use middleware::PublishMiddleware;
pub use policy::{Backoff, Jitter, OnUnhandled, RetryPolicy};
