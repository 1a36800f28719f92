//! What a property wants of the broker that it is put to.

use std::time::Duration;

/// How the broker of a property is to be made; what is absent is the broker's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerConditions {
    /// Undelivered events that a group or subscriber keeps where its options do not say.
    pub buffer: Option<usize>,
    /// How long a publish waits for room where its options do not say.
    pub publish_timeout: Option<Duration>,
    /// The longest data of an event, in bytes.
    pub max_event_bytes: Option<usize>,
    /// Dead letters that are kept.
    pub max_dead_letters: Option<usize>,
    /// Events of a topic that are kept once every group has taken them, where that can be chosen.
    pub retained: Option<usize>,
    /// Where the server is; absent for a broker within this process.
    pub url: Option<String>,
    /// What every physical name of the broker begins with, so that properties share a server without
    /// seeing each other's; members in other processes are given the same.
    pub prefix: String,
}
