//! Guarantees broken on purpose, to prove that the conformance suite notices.

/// One guarantee, broken.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// Events count as settled when they are handed out.
    AckEarly,
    /// The highest completed offset is committed, whatever is still out below it.
    CommitHighest,
    /// Partitions are given up while deliveries of them are out.
    NoDrainBeforeRevoke,
    /// What is settled after its partition was lost is committed all the same.
    NoFence,
    /// Publishing does not wait for its confirmation, and closing drops what has none.
    NoFlushOnClose,
}

/// What a mutant may change; all false without the feature.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mutations {
    pub(crate) ack_early: bool,
    pub(crate) commit_highest: bool,
    pub(crate) no_drain: bool,
    pub(crate) no_fence: bool,
    pub(crate) no_flush: bool,
}

impl Mutations {
    #[cfg(feature = "mutants")]
    pub(crate) fn of(config: &crate::KafkaConfig) -> Self {
        let is = |mutant| config.mutant == Some(mutant);
        Self {
            ack_early: is(Mutant::AckEarly),
            commit_highest: is(Mutant::CommitHighest),
            no_drain: is(Mutant::NoDrainBeforeRevoke),
            no_fence: is(Mutant::NoFence),
            no_flush: is(Mutant::NoFlushOnClose),
        }
    }

    #[cfg(not(feature = "mutants"))]
    pub(crate) const fn of(_config: &crate::KafkaConfig) -> Self {
        Self {
            ack_early: false,
            commit_highest: false,
            no_drain: false,
            no_fence: false,
            no_flush: false,
        }
    }
}
