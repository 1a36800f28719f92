//! Runs the built program as people and scripts do.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod config;
mod demo;
mod help;
#[cfg(unix)]
mod interrupt;
#[cfg(unix)]
mod servers;
mod support;
mod verbs;
