//! A broker made of a local broker, a remote broker and a routing strategy.
//!
//! Each event goes to the local broker, to the remote one, or to both; handlers subscribe once and
//! do not know which. The crate sees no backend: both sides are [`trunkline_core::Broker`]s.
//!
//! - Local: one copy, in the local broker. Where nobody local takes the topic, the event goes to the
//!   remote broker and is counted, or is refused: [`OnNoLocalSubscriber`].
//! - Remote: one copy, in the remote broker. [`OnRemoteDown`] says what happens when that cannot be
//!   reached.
//! - Both: the remote broker first. When that has accepted the event, this process's broadcast
//!   subscribers get a local copy at once and drop the remote one; a group is served by the remote
//!   copy alone.
//!
//! The order of a key is kept within each broker. [`KeySplit`] says whether a strategy can send one
//! key both ways, and so gives up the order between the two.

mod admin;
mod broker;
mod config;
mod consume;
mod counters;
mod dispatch;
mod echoes;
mod plan;
mod publish;
mod remote;
mod strategy;

pub use broker::{HybridBroker, Survives};
pub use config::{HybridConfig, OnNoLocalSubscriber, OnRemoteDown};
pub use counters::HybridCounters;
pub use strategy::{
    FirstMatch, KeySplit, RoutingRules, Rule, RulesStrategy, Step, at_or_above, by_attribute,
    by_topic, by_type, larger_than, while_remote_down,
};
