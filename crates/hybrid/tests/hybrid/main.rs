//! What the hybrid broker promises, on two memory brokers and on brokers that fail as told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod both;
mod failures;
mod lifecycle;
mod publish;
mod strategies;
mod support;
