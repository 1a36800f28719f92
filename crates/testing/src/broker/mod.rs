//! What every broker promises: the properties of a bare [`Broker`].
//!
//! Names of topics and groups are unique to each run of a property, so that the same properties run
//! on a shared server. Nothing waits for things to settle: a condition is waited for, with a limit,
//! and what must not come is looked for only a moment long.

mod batch;
mod broadcast;
mod close;
mod conditions;
mod crew;
mod delay;
mod events;
mod fidelity;
mod full;
mod garbage;
mod groups;
mod lanes;
mod leaks;
mod letters;
mod limits;
mod members;
mod operations;
mod options;
mod order;
mod overrides;
mod position;
mod property;
mod redelivery;
mod refusal;
mod settle;
mod start;
mod subject;
mod taker;
mod topics;

use trunkline_core::Broker;

pub use conditions::BrokerConditions;
pub use property::{BrokerProperty, Need};
pub use subject::Subject;

pub(crate) use crew::Crew;
pub(crate) use events::{keyed, keyless, number, numbered, spread};
pub(crate) use garbage::GARBAGE;
pub(crate) use leaks::leave_nothing_behind;
pub(crate) use property::promise;
pub(crate) use taker::{
    PATIENCE, PAUSE, QUIET, SOON, Taker, ack, elapsed_between, eventually, patience, quiet,
};

/// Every promise of brokers.
#[must_use]
pub fn properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    [
        options::properties(),
        groups::properties(),
        members::properties(),
        broadcast::properties(),
        topics::properties(),
        fidelity::properties(),
        limits::properties(),
        overrides::properties(),
        garbage::properties(),
        batch::properties(),
        order::properties(),
        settle::properties(),
        redelivery::properties(),
        delay::properties(),
        letters::properties(),
        lanes::properties(),
        start::properties(),
        position::properties(),
        operations::properties(),
        close::properties(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What only a broker within this process promises: of its own buffers, and of one queue for all.
#[must_use]
pub fn in_process_properties<B: Broker>() -> Vec<BrokerProperty<B>> {
    [
        full::in_process(),
        lanes::in_process(),
        letters::in_process(),
        close::in_process(),
        leaks::in_process(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
