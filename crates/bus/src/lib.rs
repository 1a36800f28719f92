//! The event bus of trunkline: the publish pipeline and the consumer runtime.
//!
//! A broker promises how deliveries come and go; everything else about handling them lives here,
//! once: lanes per key, concurrency, attempts, time limits, panics, dead letters, and draining.

mod admission;
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
mod observation;
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
pub use observation::Observation;
pub use policy::{Backoff, Jitter, OnUnhandled, RetryPolicy};

/// The time when `wait` will have passed; a wait without end is one of a hundred years.
fn in_future(wait: std::time::Duration) -> tokio::time::Instant {
    const FAR: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = tokio::time::Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}
