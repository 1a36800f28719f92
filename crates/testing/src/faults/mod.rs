//! What must hold while processes, connections and servers die: the properties of
//! [`crate::Suite::faults`].
//!
//! Members that die are processes of their own. A property that kills the server has one of its own,
//! and those run one after the other; bounds of time are those that the factory states.

mod arena;
mod balance;
mod cuts;
mod kills;
mod leave;
mod ledger;
mod load;
mod members;
mod outages;
mod pairs;
mod peace;
mod property;
mod revoked;
mod scene;
mod variation;

use trunkline_core::Broker;

pub(crate) use arena::{Arena, Lanes, OwnServer, end};
pub(crate) use property::FaultProperty;
pub(crate) use scene::Scene;

/// Every promise about faults.
pub(crate) fn properties<B: Broker>() -> Vec<FaultProperty<B>> {
    [
        peace::properties(),
        pairs::properties(),
        balance::properties(),
        leave::properties(),
        members::properties(),
        kills::properties(),
        outages::properties(),
        cuts::properties(),
        revoked::properties(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
