//! Where events go that have no key.

use std::sync::atomic::Ordering;

use crate::codec::Draft;
use crate::topics::Place;

/// How the events of a topic spread over its partitions.
///
/// An event with a key always goes to the key's partition, murmur2 of the key, whatever the strategy:
/// order rests on it. The strategy is for events without a key, which have no order. A partition that a
/// publish names wins over both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionStrategy {
    /// By the key's hash; an event without a key goes to any partition, by chance, as librdkafka's
    /// `murmur2_random` and Kafka's Java client before 2.4 have it.
    #[default]
    KeyHash,
    /// Events without a key take the topic's partitions in turn. Each publishing process has a turn of
    /// its own for each topic.
    RoundRobin,
    /// Events without a key stay on one partition for 100 ms, or for the property
    /// `sticky.partitioning.linger.ms`, and then on another: fewer and fuller batches where many are
    /// published, and an uneven share for a moment.
    Sticky,
}

impl PartitionStrategy {
    /// Chooses the partition of a record where the client is not to.
    pub(crate) fn settle(self, draft: &mut Draft, place: &Place) {
        if self == Self::RoundRobin && draft.key.is_none() && draft.partition.is_none() {
            let turn = place.turn.fetch_add(1, Ordering::Relaxed) % place.partitions.max(1);
            draft.partition = i32::try_from(turn).ok();
        }
    }

    /// What librdkafka's `sticky.partitioning.linger.ms` is by default.
    pub(crate) const fn linger_millis(self) -> &'static str {
        match self {
            // Long beside a batch, short beside what a consumer notices.
            Self::Sticky => "100",
            // Without a value librdkafka takes twice `linger.ms`.
            Self::KeyHash | Self::RoundRobin => "0",
        }
    }
}
