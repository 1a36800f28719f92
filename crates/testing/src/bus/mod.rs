//! What the consumer runtime and the publish pipeline promise over every broker: the properties of
//! an [`trunkline_bus::EventBus`].
//!
//! Each bus of a property stands for a process of its own: closing it leaves the broker, as a server,
//! to the others.

mod attempts;
mod dispatch;
mod drain;
mod groups;
mod letters;
mod order;
mod pressure;
mod publish;
pub(crate) mod stage;

use trunkline_core::Broker;

use crate::broker::BrokerProperty;

/// Every promise of a bus over a broker.
#[must_use]
pub fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    [
        order::properties(),
        attempts::properties(),
        dispatch::properties(),
        letters::properties(),
        groups::properties(),
        drain::properties(),
        publish::properties(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a bus promises over a broker within this process alone: values pass by pointer, and a
/// publisher waits for a group's own buffer.
#[must_use]
pub fn in_process_properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    [pressure::in_process(), publish::in_process(), dispatch::in_process()]
        .into_iter()
        .flatten()
        .collect()
}
