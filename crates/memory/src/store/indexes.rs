//! The ways to an event other than its position.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use trunkline_core::{Attributes, EventId, Identity};

/// Which positions an identity or a correlation id leads to.
///
/// An event enters and leaves all of them at once, so that nothing is kept of what is removed.
#[derive(Default)]
pub(super) struct Indexes {
    identities: HashMap<Identity, u64>,
    correlations: HashMap<EventId, BTreeSet<u64>>,
}

impl Indexes {
    pub(super) fn position(&self, identity: &Identity) -> Option<u64> {
        self.identities.get(identity).copied()
    }

    /// The positions of a correlation after `after`, in order.
    pub(super) fn correlated(
        &self,
        correlation: &EventId,
        after: u64,
    ) -> impl Iterator<Item = u64> + '_ {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let positions = self.correlations.get(correlation).into_iter();
        positions.flat_map(move |positions| positions.range(range)).copied()
    }

    pub(super) fn add(&mut self, position: u64, identity: Identity, attributes: &Attributes) {
        self.identities.insert(identity, position);
        if let Some(correlation) = attributes.correlation() {
            self.correlations.entry(correlation.clone()).or_default().insert(position);
        }
    }

    pub(super) fn remove(&mut self, position: u64, attributes: &Attributes) {
        self.identities.remove(&attributes.identity());
        let Some(correlation) = attributes.correlation() else { return };
        if let Some(positions) = self.correlations.get_mut(correlation) {
            positions.remove(&position);
            if positions.is_empty() {
                self.correlations.remove(correlation);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.identities.len() + self.correlations.len()
    }
}
